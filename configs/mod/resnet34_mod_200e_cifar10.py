"""ResNet34-MoD on CIFAR-10.

    python tools/train.py configs/mod/resnet34_mod_200e_cifar10.py

200 epochs of SGD, batch size 128, learning rate 0.1 divided by 10 after 100 and 150:
mmpretrain's schedule: the supplement states none. Trained on 45,000 images, the best
epoch chosen on the other 5,000 (S4).
Paper (Table 11): top-1 93.83 ± 0.20 %, 633 MMACs, 12.42 M parameters.
"""

_base_ = 'resnet18_mod_200e_cifar10.py'

model = dict(backbone=dict(depth=34))
