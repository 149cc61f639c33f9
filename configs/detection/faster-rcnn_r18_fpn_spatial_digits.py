"""The Faster R-CNN of faster-rcnn_r18_fpn_digits.py with two budgets and the dense point.

    python tools/train.py configs/detection/faster-rcnn_r18_fpn_digits.py
    python tools/train.py configs/detection/faster-rcnn_r18_fpn_spatial_digits.py

It starts from the dense network that the first command trains, whose FPN maps it learns.
"""

_base_ = 'faster-rcnn_r18_fpn_digits.py'

model = dict(
    backbone=dict(
        type='mmdyn.SpatialResNet',
        budgets=(0.4, 0.7, 1.0),
        execution='sparse',
        norm_eval=True,  # as in the stock config: the start is trained
    )
)
load_from = 'work_dirs/faster-rcnn_r18_fpn_digits/epoch_4.pth'
find_unused_parameters = True  # a step uses the modules of one budget
custom_hooks = [
    # Three times the paper's weight, half of its noise: a small part of its steps.
    dict(
        type='mmdyn.BudgetScheduleHook',
        weight=30,
        temperature=((0, 2.0), (0.5, 1.0)),
        noise_until=0.5,
    ),
    # A small weight: a teacher trained so briefly is soon worse than its student.
    dict(type='mmdyn.DistillationHook', student='neck', loss='features', weight=0.1),
]
max_epochs = 3
param_scheduler = [
    dict(type='OneCycleLR', eta_max=1e-3, total_steps=max_epochs * 75, by_epoch=False)
]
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
default_hooks = dict(checkpoint=dict(interval=max_epochs))
