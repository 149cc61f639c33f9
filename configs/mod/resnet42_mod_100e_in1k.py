"""ResNet42-MoD on ImageNet.

    tools/dist_train.sh configs/mod/resnet42_mod_100e_in1k.py 4

100 epochs of SGD, learning rate 0.1 divided by 10 every 30 epochs, weight decay 1e-4,
256 images per batch (S1.1): on four GPUs.
Paper (Table 7): top-1 72.03 %, 2.29 GMACs, 17.72 M parameters.
"""

_base_ = 'resnet18_mod_100e_in1k.py'

model = dict(backbone=dict(depth=42))
