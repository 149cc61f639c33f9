"""A ResNet34-MoD of a quarter of the width, c = 8, on a fifth of CIFAR-10's images.

    python tools/train.py configs/mod/resnet34-16_mod-c8_12e_cifar10-folder.py \\
        --cfg-options model.backbone.fusion=original randomness.seed=1

It compares fusions on two CPU cores: 12 epochs take 5 minutes there. The paper has no
figures for it; ours are in the README of this folder.
"""

_base_ = ['../_base_/datasets/cifar10_folder.py', '../_base_/default_runtime.py']

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='mmdyn.ResNetMoD',
        depth=34,
        stem='cifar',
        stem_channels=16,
        base_channels=16,
        divisor=8,
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=128,
        loss=dict(type='CrossEntropyLoss'),
    ),
)

optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
)
max_epochs = 12
param_scheduler = dict(
    type='OneCycleLR',
    eta_max=0.1,
    total_steps=max_epochs * 157,  # 10,000 images in batches of 64
    by_epoch=False,
)
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=max_epochs)
val_cfg = dict()
test_cfg = dict(type='mmdyn.OperatingPointTestLoop')
