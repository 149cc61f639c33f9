"""ResNet50-MoD, c = 2, processed channels added at their original positions.

    tools/dist_train.sh configs/mod/resnet50_mod-c2-op_100e_in1k.py 4

Schedule: that of resnet50_mod_100e_in1k.py. Paper (Table 8): top-1 55.36 %.
"""

_base_ = 'resnet50_mod_100e_in1k.py'

model = dict(backbone=dict(divisor=2, fusion='original'))
