"""MobileNetV2-MoD-L, the wider layers of Table 6, on ImageNet.

    tools/dist_train.sh configs/mod/mobilenet-v2_mod-large_100e_in1k.py 4

Schedule: that of mobilenet-v2_mod_100e_in1k.py. The paper's supplement prints no figures
of it; ours: 3.34 M parameters, 0.326 GMACs.
"""

_base_ = 'mobilenet-v2_mod_100e_in1k.py'

model = dict(backbone=dict(variant='large'))
