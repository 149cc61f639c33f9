"""MobileNetV2-MoD on ImageNet.

    tools/dist_train.sh configs/mod/mobilenet-v2_mod_100e_in1k.py 4

100 epochs of SGD, learning rate 0.1 divided by 10 every 30 epochs, weight decay 1e-4,
256 images per batch (S1.1): on four GPUs.
The paper's supplement prints no figures of it; ours: 2.94 M parameters, 0.206 GMACs.
"""

_base_ = [
    'mmpretrain::_base_/datasets/imagenet_bs64.py',
    'mmpretrain::_base_/schedules/imagenet_bs256.py',
    '../_base_/default_runtime.py',
]

model = dict(
    type='ImageClassifier',
    backbone=dict(type='mmdyn.MobileNetV2MoD'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=1280,
        loss=dict(type='CrossEntropyLoss'),
        topk=(1, 5),
    ),
)

test_cfg = dict(type='mmdyn.OperatingPointTestLoop')
