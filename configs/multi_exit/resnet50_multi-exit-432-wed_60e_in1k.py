"""ResNet-50 with branches of 4, 3 and 2 SE-bottlenecks, weighted ensemble (WED).

Paper (Table VI): top-1 68.01, 70.86, 75.81, 77.21 % of exits 1 to 4; adaptive 76.37 %
at 2.96 GMACs.
"""

_base_ = './resnet18_multi-exit-432-wed_60e_in1k.py'

model = dict(
    backbone=dict(
        depth=50,
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50'),
    ),
    head=dict(in_channels=2048),
)
