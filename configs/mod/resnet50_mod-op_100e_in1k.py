"""ResNet50-MoD, c = 64, processed channels added at their original positions.

    tools/dist_train.sh configs/mod/resnet50_mod-op_100e_in1k.py 4

Schedule: that of resnet50_mod_100e_in1k.py. Paper (Table 8): top-1 70.31 %.
"""

_base_ = 'resnet50_mod_100e_in1k.py'

model = dict(backbone=dict(fusion='original'))
