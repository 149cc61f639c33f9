"""ResNet101-MoD on ImageNet.

    tools/dist_train.sh configs/mod/resnet101_mod_100e_in1k.py 4

100 epochs of SGD, learning rate 0.1 divided by 10 every 30 epochs, weight decay 1e-4,
256 images per batch (S1.1): on four GPUs.
Paper (Table 10): top-1 77.08 %.
"""

_base_ = 'resnet50_mod_100e_in1k.py'

model = dict(backbone=dict(depth=101))
