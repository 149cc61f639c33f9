"""The full-size mixture, trained with expectations instead of samples (Fig. 9).

The paper finds that its accuracy falls faster as functions are removed.
"""

_base_ = './cnmm_200e_cifar100.py'

model = dict(backbone=dict(sampling=False))
