"""The baseline: the network of three budgets with masks at random places.

    python tools/train.py configs/spatial/resnet14_20e_cifar10-folder.py
    python tools/train.py configs/spatial/resnet14_spatial-random_12e_cifar10-folder.py

It is trained like the network with mask units; each mask consists of blobs at random
places that cost exactly the budget, drawn anew for every step.
"""

_base_ = 'resnet14_spatial_12e_cifar10-folder.py'

custom_hooks = [
    dict(type='mmdyn.BudgetScheduleHook', weight=0),
    dict(type='mmdyn.DistillationHook', temperature=10),
    dict(type='mmdyn.RandomMasksHook'),
]
