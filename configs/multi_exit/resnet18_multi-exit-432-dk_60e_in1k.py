"""ResNet-18 whose exits learn from a ResNet-18 without branches (DK).

    python tools/train.py CONFIG --cfg-options \\
        model.distillation.checkpoint=resnet18.pth

where resnet18.pth has the weights of mmpretrain's resnet18_8xb32_in1k.
Paper (Table V): top-1 65.4, 67.1, 69.5, 69.2 % of exits 1 to 4; adaptive 69.2 % at 1.3
GMACs.
"""

_base_ = './resnet18_multi-exit-432_60e_in1k.py'

model = dict(
    distillation=dict(
        type='mmdyn.MultiExitDistillation',
        teacher='dk',
        model=dict(
            type='ImageClassifier',
            backbone=dict(type='ResNet', depth=18),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=1000, in_channels=512),
        ),
        checkpoint='resnet18.pth',
    )
)
