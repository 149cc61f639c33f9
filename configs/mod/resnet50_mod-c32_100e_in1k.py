"""ResNet50-MoD, c = 32, processed channels added to the first channels.

    tools/dist_train.sh configs/mod/resnet50_mod-c32_100e_in1k.py 4

Schedule: that of resnet50_mod_100e_in1k.py. Paper (Table 8): top-1 74.68 %.
"""

_base_ = 'resnet50_mod_100e_in1k.py'

model = dict(backbone=dict(divisor=32))
