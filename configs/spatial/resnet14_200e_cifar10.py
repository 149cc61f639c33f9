"""Dense ResNet-14 on CIFAR-10: start and teacher of the spatial networks.

python tools/train.py configs/spatial/resnet14_200e_cifar10.py
"""

_base_ = 'resnet20_200e_cifar10.py'

model = dict(backbone=dict(depth=14))
