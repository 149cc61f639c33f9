"""ResNet-18 with the budgets 0.3, 0.5 and 0.7 on ImageNet.

    tools/dist_train.sh configs/spatial/resnet18_spatial_100e_in1k.py 4

Starts from mmpretrain's dense network, which is also the teacher. The targets are the
paper's single-budget networks: top-1 65.61, 67.11 and 68.87 % (dense: 69.76).
Schedule: mmpretrain's 100 epochs, learning rate 0.1 divided by 10 every 30 epochs, 256
images per batch; the supplement states none.
"""

_base_ = [
    'mmpretrain::_base_/datasets/imagenet_bs64.py',
    'mmpretrain::_base_/schedules/imagenet_bs256.py',
    '../_base_/default_runtime.py',
]

model = dict(
    type='ImageClassifier',
    backbone=dict(type='mmdyn.SpatialResNet', depth=18, budgets=(0.3, 0.5, 0.7)),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=512,
        loss=dict(type='CrossEntropyLoss'),
        topk=(1, 5),
    ),
)
load_from = (
    'https://download.openmmlab.com/mmclassification/v0/resnet/'
    'resnet18_8xb32_in1k_20210831-fbbb1da6.pth'
)

custom_hooks = [
    dict(
        type='mmdyn.BudgetScheduleHook',
        temperature=((0, 5.0), (0.3, 2.5), (0.6, 1.0)),  # falls with the learning rate
        awareness='l2',
        targets={'budget=0.3': 65.61, 'budget=0.5': 67.11, 'budget=0.7': 68.87},
    ),
    dict(type='mmdyn.DistillationHook', temperature=10),
]

val_cfg = dict(type='mmdyn.OperatingPointValLoop')
test_cfg = dict(type='mmdyn.OperatingPointTestLoop')
find_unused_parameters = True  # a step uses the modules of one budget
