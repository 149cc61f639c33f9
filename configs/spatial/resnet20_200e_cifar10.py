"""Dense ResNet-20 on CIFAR-10: start and teacher of the spatial networks.

    python tools/train.py configs/spatial/resnet20_200e_cifar10.py

200 epochs of SGD, batch size 128, learning rate 0.1 divided by 10 after 100 and 150:
mmpretrain's schedule: the supplement states none.
"""

_base_ = [
    '../_base_/datasets/cifar10_bs128_reflect.py',
    '../_base_/schedules/cifar_200e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    type='ImageClassifier',
    backbone=dict(type='mmdyn.ResNet', depth=20),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=64,
        loss=dict(type='CrossEntropyLoss'),
    ),
)
