"""A ResNet-14 with three budgets, on a fifth of CIFAR-10's images.

    python tools/train.py configs/spatial/resnet14_20e_cifar10-folder.py
    python tools/train.py configs/spatial/resnet14_spatial_12e_cifar10-folder.py

It starts from the dense network that the first command trains, which is also its teacher.
It takes 8 minutes on two CPU cores. The paper has no figures for it; ours are in the
README of this folder.
"""

_base_ = 'resnet14_20e_cifar10-folder.py'

model = dict(
    backbone=dict(type='mmdyn.SpatialResNet', budgets=(0.3, 0.5, 0.7), execution='sparse')
)
load_from = 'work_dirs/resnet14_20e_cifar10-folder/epoch_20.pth'
find_unused_parameters = True  # a step uses the modules of one budget
custom_hooks = [
    # Three times the paper's weight: training has a small part of its steps.
    dict(type='mmdyn.BudgetScheduleHook', weight=30),
    dict(type='mmdyn.DistillationHook', temperature=10),
]
max_epochs = 12
param_scheduler = dict(total_steps=max_epochs * 157)
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
val_cfg = dict(type='mmdyn.OperatingPointValLoop')
# Masks would learn to skip blank borders, which test images do not have.
train_pipeline = [
    dict(type='LoadImageFromFile'),
    # The first only pads: RandomCrop's own padding is always black.
    dict(type='RandomCrop', crop_size=40, pad_if_needed=True, padding_mode='reflect'),
    dict(type='RandomCrop', crop_size=32),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
