"""ResNet50-MoD on CIFAR-10.

    python tools/train.py configs/mod/resnet50_mod_200e_cifar10.py

200 epochs of SGD, batch size 128, learning rate 0.1 divided by 10 after 100 and 150:
mmpretrain's schedule: the supplement states none. Trained on 45,000 images, the best
epoch chosen on the other 5,000 (S4).
Paper (Table 11): top-1 93.24 ± 0.24 %, 808 MMACs, 16.07 M parameters.
"""

_base_ = 'resnet18_mod_200e_cifar10.py'

model = dict(backbone=dict(depth=50), head=dict(in_channels=2048))
