"""ResNet50-MoD, c = 16, processed channels added at their original positions.

    tools/dist_train.sh configs/mod/resnet50_mod-c16-op_100e_in1k.py 4

Schedule: that of resnet50_mod_100e_in1k.py. Paper (Table 8): top-1 65.35 %.
"""

_base_ = 'resnet50_mod_100e_in1k.py'

model = dict(backbone=dict(divisor=16, fusion='original'))
