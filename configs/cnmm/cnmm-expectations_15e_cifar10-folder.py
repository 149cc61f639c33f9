"""The mixture on a fifth of CIFAR-10's images, trained with expectations (Fig. 9)."""

_base_ = './cnmm_15e_cifar10-folder.py'

model = dict(backbone=dict(sampling=False))
