"""ResNet-20 with three budgets, weights proportional to their distance (Fig. 2a).

    python tools/train.py configs/spatial/resnet20_spatial-l1_200e_cifar10.py

Everything else is as in resnet20_spatial_200e_cifar10.py.
"""

_base_ = 'resnet20_spatial_200e_cifar10.py'

custom_hooks = [
    dict(type='mmdyn.BudgetScheduleHook', awareness='l1', targets='dense'),
    dict(type='mmdyn.DistillationHook', temperature=10),
]
