"""The FCN of fcn_r18-d8_digits.py with two budgets and the dense network in one.

    python tools/train.py configs/segmentation/fcn_r18-d8_digits.py
    python tools/train.py configs/segmentation/fcn_r18-d8_spatial_digits.py

It starts from the dense network that the first command trains, which is also its teacher.
"""

_base_ = 'fcn_r18-d8_digits.py'

model = dict(
    backbone=dict(
        type='mmdyn.SpatialResNet',
        deep_stem=True,
        budgets=(0.2, 0.5, 1.0),
        execution='sparse',
        norm_eval=True,
    )
)
load_from = 'work_dirs/fcn_r18-d8_digits/iter_500.pth'
find_unused_parameters = True  # a step uses the modules of one budget
custom_hooks = [
    # Three times the paper's weight, half of its noise: a small part of its steps.
    dict(
        type='mmdyn.BudgetScheduleHook',
        weight=30,
        temperature=((0, 2.0), (0.5, 1.0)),
        noise_until=0.5,
    ),
    dict(type='mmdyn.DistillationHook', student='decode_head.conv_seg', temperature=2),
]
max_iters = 300
param_scheduler = [
    dict(type='OneCycleLR', eta_max=0.05, total_steps=max_iters, by_epoch=False)
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(checkpoint=dict(interval=max_iters))
