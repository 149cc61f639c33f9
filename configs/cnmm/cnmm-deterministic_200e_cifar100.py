"""The sum of all functions with early exits, like an MSDNet (Fig. 9).

It has no mixing weights, so it cannot be pruned: its exits are its only points.
"""

_base_ = './cnmm_200e_cifar100.py'

model = dict(backbone=dict(deterministic=True))
