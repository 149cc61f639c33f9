"""ResNet-20 with exits behind its first two stages, on handwritten digits.

    python tools/dataset_converters/digits.py data/digits
    python tools/train.py configs/multi_exit/resnet20_multi-exit_15e_digits.py

Trains in about 70 seconds on two CPU cores. Top-1 on the 360 held-out digits: 98.1 % at
the last exit, 87 % at the first, which costs 0.35 of it.
"""

_base_ = ['../_base_/datasets/digits.py', '../_base_/default_runtime.py']

model = dict(
    type='mmdyn.MultiExitClassifier',
    backbone=dict(type='mmdyn.ResNet', depth=20, in_channels=1),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=64,
        loss=dict(type='CrossEntropyLoss'),
    ),
    exits=[
        dict(type='mmdyn.LinearExit', stage=1),
        dict(type='mmdyn.LinearExit', stage=2),
    ],
    policy=dict(
        type='mmdyn.ConfidencePolicy',
        thresholds=dict(quick=0.5, balanced=0.7, careful=0.9),
    ),
)

# Thresholds are searched on held-out training images.
train_dataloader = dict(dataset=dict(indices=[i for i in range(1437) if i % 6]))
val_dataloader = dict(dataset=dict(data_prefix='train', indices=range(0, 1437, 6)))
optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
)
max_epochs = 15
param_scheduler = dict(
    type='OneCycleLR',
    eta_max=0.1,
    total_steps=max_epochs * 38,  # 1,197 images in batches of 32
    by_epoch=False,
)
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=max_epochs)
val_cfg = dict(type='mmdyn.OperatingPointValLoop')
test_cfg = dict(type='mmdyn.OperatingPointTestLoop')
