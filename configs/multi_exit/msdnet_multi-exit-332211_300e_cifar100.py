"""MSDNet with six branches, of 3, 3, 2, 2, 1 and 1 SE-bottlenecks, on CIFAR-100.

    python tools/train.py CONFIG
    python tools/analysis_tools/search_thresholds.py CONFIG CHECKPOINT --max-macs 40e6

The last exit is pooling and a linear layer. Section V-E; Fig. 8 (b) gives no numbers.
"""

_base_ = [
    '../_base_/datasets/cifar100_bs64.py',
    '../_base_/schedules/multi-exit_300e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    type='mmdyn.MultiExitClassifier',
    backbone=dict(type='mmdyn.MSDNet', stem='cifar', num_blocks=7, base=4, step=2),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=100,
        in_channels=200,
        loss=dict(type='CrossEntropyLoss'),
    ),
    exits=dict(type='mmdyn.SEBottleneckExit', levels=(3, 3, 2, 2, 1, 1)),
)
