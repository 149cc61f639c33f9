"""The baseline: the network of three budgets with masks at random places.

    python tools/train.py configs/spatial/resnet14_20e_cifar10-folder.py
    python tools/train.py configs/spatial/resnet14_spatial-random_12e_cifar10-folder.py

Trained as the network with mask units; each mask is blobs at random places that cost
exactly the budget, new ones for every step.
"""

_base_ = 'resnet14_spatial_12e_cifar10-folder.py'

custom_hooks = [
    dict(type='mmdyn.BudgetScheduleHook', weight=0),
    dict(type='mmdyn.DistillationHook', temperature=10),
    dict(type='mmdyn.RandomMasksHook'),
]
