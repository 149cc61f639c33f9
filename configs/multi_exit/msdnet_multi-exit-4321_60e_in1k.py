"""MSDNet of five blocks with branches of 4, 3, 2 and 1 SE-bottlenecks on ImageNet.

    tools/dist_train.sh configs/multi_exit/msdnet_multi-exit-4321_60e_in1k.py 4

The last exit is pooling and a linear layer. Section V-E; Fig. 8 (c) gives no numbers.
"""

_base_ = [
    'mmpretrain::_base_/datasets/imagenet_bs64.py',
    '../_base_/schedules/multi-exit_60e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    type='mmdyn.MultiExitClassifier',
    backbone=dict(type='mmdyn.MSDNet'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=560,
        loss=dict(type='CrossEntropyLoss'),
    ),
    exits=dict(type='mmdyn.SEBottleneckExit', levels=(4, 3, 2, 1)),
)
