"""ResNet-20 with three budgets, the network of the budget 0.7 as teacher (Fig. 2c).

    python tools/train.py configs/spatial/resnet20_spatial-b70-teacher_200e_cifar10.py

Everything else is as in resnet20_spatial_200e_cifar10.py.
"""

_base_ = 'resnet20_spatial_200e_cifar10.py'

custom_hooks = [
    dict(type='mmdyn.BudgetScheduleHook', awareness='l2', targets='dense'),
    dict(
        type='mmdyn.DistillationHook',
        teacher='configs/spatial/resnet20_spatial-b70_200e_cifar10.py',
        checkpoint='work_dirs/resnet20_spatial-b70_200e_cifar10/epoch_200.pth',
        teacher_point='budget=0.7',
        temperature=10,
    ),
]
