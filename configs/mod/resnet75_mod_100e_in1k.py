"""ResNet75-MoD on ImageNet.

    tools/dist_train.sh configs/mod/resnet75_mod_100e_in1k.py 4

100 epochs of SGD, learning rate 0.1 divided by 10 every 30 epochs, weight decay 1e-4,
256 images per batch (S1.1): on four GPUs.
Paper (Table 9): top-1 76.27 %, 3.48 GMACs, 23.10 M parameters.
"""

_base_ = 'resnet50_mod_100e_in1k.py'

model = dict(backbone=dict(depth=75))
