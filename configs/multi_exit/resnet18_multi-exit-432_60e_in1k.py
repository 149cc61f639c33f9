"""ResNet-18 with branches of 4, 3 and 2 SE-bottlenecks on ImageNet.

    tools/dist_train.sh configs/multi_exit/resnet18_multi-exit-432_60e_in1k.py 4

60 epochs from pretrained weights, 256 images per batch: on four GPUs (section V-A).
Paper (Table II): top-1 65.44, 67.06, 69.22, 69.28 % of exits 1 to 4; in Table V,
adaptive,
69.3 % at 1.3 GMACs.
"""

_base_ = [
    'mmpretrain::_base_/datasets/imagenet_bs64.py',
    '../_base_/schedules/multi-exit_60e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    type='mmdyn.MultiExitClassifier',
    backbone=dict(
        type='mmdyn.ResNet',
        depth=18,
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet18'),
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=512,
        loss=dict(type='CrossEntropyLoss'),
    ),
    exits=dict(type='mmdyn.SEBottleneckExit', levels=(4, 3, 2)),
)
