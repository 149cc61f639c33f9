"""ResNet86-MoD-lk: processed channels added to the last k channels.

    tools/dist_train.sh configs/mod/resnet86_mod-lk_100e_in1k.py 4

Schedule: that of resnet50_mod_100e_in1k.py. Paper (Table 9): top-1 76.64 %.
"""

_base_ = 'resnet86_mod_100e_in1k.py'

model = dict(backbone=dict(fusion='last'))
