"""ResNet-20 with three budgets, distilled at temperature 1 (Fig. 2d).

    python tools/train.py configs/spatial/resnet20_spatial-t1_200e_cifar10.py

Everything else is as in resnet20_spatial_200e_cifar10.py.
"""

_base_ = 'resnet20_spatial_200e_cifar10.py'

custom_hooks = [
    dict(type='mmdyn.BudgetScheduleHook', awareness='l2', targets='dense'),
    dict(type='mmdyn.DistillationHook', temperature=1),
]
