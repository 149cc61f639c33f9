"""ResNet-32 with the single budget 0.5 on CIFAR-10.

    python tools/train.py configs/spatial/resnet32_spatial-b50_200e_cifar10.py

It starts from the same dense network as
resnet32_spatial_200e_cifar10.py, for comparison with its budgets.
"""

_base_ = 'resnet32_spatial_200e_cifar10.py'

model = dict(backbone=dict(budgets=(0.5,)))
