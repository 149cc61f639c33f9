"""ResNet-26 with the budgets 0.3, 0.5 and 0.7 on CIFAR-10.

    python tools/train.py configs/spatial/resnet26_200e_cifar10.py
    python tools/train.py configs/spatial/resnet26_spatial_200e_cifar10.py

The first command trains the dense network that this one starts from; a copy of it is the
teacher, and its accuracy is the target of every budget. The paper shows its accuracies
only in a figure.
"""

_base_ = 'resnet26_200e_cifar10.py'

model = dict(
    backbone=dict(type='mmdyn.SpatialResNet', budgets=(0.3, 0.5, 0.7), execution='sparse')
)
load_from = 'work_dirs/resnet26_200e_cifar10/epoch_200.pth'

custom_hooks = [
    # The learning rate falls after half and three quarters of the training.
    dict(type='mmdyn.BudgetScheduleHook', awareness='l2', targets='dense'),
    dict(type='mmdyn.DistillationHook', temperature=10),
]
val_cfg = dict(type='mmdyn.OperatingPointValLoop')
find_unused_parameters = True  # a step uses the modules of one budget
