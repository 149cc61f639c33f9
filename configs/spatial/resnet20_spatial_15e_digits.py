"""ResNet-20 with three budgets and the dense network in one, on handwritten digits.

python tools/dataset_converters/digits.py data/digits
python tools/train.py configs/spatial/resnet20_spatial_15e_digits.py

Trains in about 3 minutes on two CPU cores. Top-1 on the 360 held-out digits: 95.6, 97.5
and 96.9 % at the budgets 0.3, 0.5 and 0.7, of which it executes 0.31, 0.52 and 0.70, and
97.8 % at the dense point.
"""

_base_ = ['../_base_/datasets/digits.py', '../_base_/default_runtime.py']

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='mmdyn.SpatialResNet',
        depth=20,
        in_channels=1,
        budgets=(0.3, 0.5, 0.7, 1.0),
        execution='sparse',
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=64,
        loss=dict(type='CrossEntropyLoss'),
    ),
)

optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
)
max_epochs = 15
param_scheduler = dict(
    type='OneCycleLR',
    eta_max=0.1,
    total_steps=max_epochs * 45,  # 1,437 images in batches of 32
    by_epoch=False,
)
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=max_epochs)
val_cfg = dict(type='mmdyn.OperatingPointValLoop')
test_cfg = dict(type='mmdyn.OperatingPointTestLoop')
find_unused_parameters = True  # a step uses the modules of one budget
custom_hooks = [dict(type='mmdyn.BudgetScheduleHook')]
