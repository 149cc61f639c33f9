"""ResNet50-MoD on ImageNet.

    tools/dist_train.sh configs/mod/resnet50_mod_100e_in1k.py 4

100 epochs of SGD, learning rate 0.1 divided by 10 every 30 epochs, weight decay 1e-4,
256 images per batch (S1.1): on four GPUs.
Paper (Table 9): top-1 74.79 %, 2.60 GMACs, 18.11 M parameters.
"""

_base_ = [
    'mmpretrain::_base_/datasets/imagenet_bs64.py',
    'mmpretrain::_base_/schedules/imagenet_bs256.py',
    '../_base_/default_runtime.py',
]

model = dict(
    type='ImageClassifier',
    backbone=dict(type='mmdyn.ResNetMoD', depth=50),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=2048,
        loss=dict(type='CrossEntropyLoss'),
        topk=(1, 5),
    ),
)

test_cfg = dict(type='mmdyn.OperatingPointTestLoop')
