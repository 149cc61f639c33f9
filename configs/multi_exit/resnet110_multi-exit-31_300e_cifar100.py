"""ResNet-110 with branches of 3 and 1 SE-bottlenecks on CIFAR-100.

    python tools/train.py CONFIG
    python tools/analysis_tools/search_thresholds.py CONFIG CHECKPOINT --min-accuracy 70

300 epochs, batch size 64 (section V-A); thresholds are searched on the 5,000 training
images that are left out.
Paper (Table III): top-1 65.14, 70.81, 74.22 % of exits 1 to 3.
"""

_base_ = [
    '../_base_/datasets/cifar100_bs64.py',
    '../_base_/schedules/multi-exit_300e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    type='mmdyn.MultiExitClassifier',
    backbone=dict(type='mmdyn.ResNet', depth=110),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=100,
        in_channels=64,
        loss=dict(type='CrossEntropyLoss'),
    ),
    exits=dict(type='mmdyn.SEBottleneckExit', levels=(3, 1)),
)
