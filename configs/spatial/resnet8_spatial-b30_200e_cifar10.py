"""ResNet-8 with the single budget 0.3 on CIFAR-10.

    python tools/train.py configs/spatial/resnet8_spatial-b30_200e_cifar10.py

It starts from the same dense network as
resnet8_spatial_200e_cifar10.py, for comparison with its budgets.
"""

_base_ = 'resnet8_spatial_200e_cifar10.py'

model = dict(backbone=dict(budgets=(0.3,)))
