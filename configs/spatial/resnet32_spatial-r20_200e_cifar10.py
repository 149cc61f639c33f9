"""ResNet-32 with budgets over a range of 20 % (Fig. 2f).

    python tools/train.py configs/spatial/resnet32_spatial-r20_200e_cifar10.py

Everything else is as in resnet32_spatial_200e_cifar10.py.
"""

_base_ = 'resnet32_spatial_200e_cifar10.py'

model = dict(backbone=dict(budgets=(0.4, 0.5, 0.6)))
