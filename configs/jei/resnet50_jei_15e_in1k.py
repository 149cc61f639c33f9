"""JEI-DNN on a frozen ResNet-50, an exit behind each block, on ImageNet.

python tools/train.py CONFIG --cfg-options custom_hooks.0.cost_weight=0.3
"""

_base_ = [
    'mmpretrain::_base_/datasets/imagenet_bs64.py',
    '../_base_/schedules/jei.py',
    '../_base_/default_runtime.py',
]

model = dict(
    type='mmdyn.MultiExitClassifier',
    backbone=dict(type='mmdyn.ResNet', depth=50),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=2048,
        loss=dict(type='CrossEntropyLoss'),
    ),
    cut='block',
    exits=[dict(type='mmdyn.LinearExit', stage=block) for block in range(1, 16)],
    policy=dict(type='mmdyn.LearnedGatePolicy'),
)
load_from = 'https://download.openmmlab.com/mmclassification/v0/resnet/resnet50_8xb32_in1k_20210831-ea4938fc.pth'

# Half of the validation images for gates and calibration, the rest to test on.
val_dataloader = dict(dataset=dict(indices=range(0, 50000, 2)))
test_dataloader = dict(dataset=dict(indices=range(1, 50000, 2)))
train_cfg = dict(by_epoch=True, max_epochs=15, val_interval=1)
test_evaluator = [dict(type='Accuracy', topk=1), dict(type='mmdyn.UncertaintyReport')]
