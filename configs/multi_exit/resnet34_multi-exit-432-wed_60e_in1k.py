"""ResNet-34 with branches of 4, 3 and 2 SE-bottlenecks, weighted ensemble (WED).

Paper (Table VI): top-1 66.97, 69.66, 73.77, 74.23 % of exits 1 to 4; adaptive 73.49 %
at 2.00 GMACs.
"""

_base_ = './resnet18_multi-exit-432-wed_60e_in1k.py'

model = dict(
    backbone=dict(
        depth=34,
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet34'),
    ),
)
