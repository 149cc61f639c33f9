"""A config of the toy backbone, on handwritten digits."""

_base_ = [
    '../../configs/_base_/datasets/digits.py',
    '../../configs/_base_/default_runtime.py',
]

custom_imports = dict(imports=['helpers.toys'])
model = dict(
    type='ImageClassifier',
    backbone=dict(type='PoolingResNet', depth=20, in_channels=1),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=64,
        loss=dict(type='CrossEntropyLoss'),
    ),
)
train_dataloader = dict(dataset=dict(indices=[i for i in range(1437) if i % 6]))
val_dataloader = dict(dataset=dict(data_prefix='train', indices=range(0, 1437, 6)))
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=5e-4))
param_scheduler = dict(type='OneCycleLR', eta_max=0.1, total_steps=570, by_epoch=False)
train_cfg = dict(by_epoch=True, max_epochs=15, val_interval=15)
val_cfg = dict(type='mmdyn.OperatingPointValLoop')
test_cfg = dict(type='mmdyn.OperatingPointTestLoop')
