"""ResNet26-MoD on ImageNet.

    tools/dist_train.sh configs/mod/resnet26_mod_100e_in1k.py 4

100 epochs of SGD, learning rate 0.1 divided by 10 every 30 epochs, weight decay 1e-4,
256 images per batch (S1.1): on four GPUs.
Paper (Table 7): top-1 69.53 %, 1.36 GMACs, 11.40 M parameters.
"""

_base_ = 'resnet18_mod_100e_in1k.py'

model = dict(backbone=dict(depth=26))
