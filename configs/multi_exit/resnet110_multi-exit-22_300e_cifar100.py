"""ResNet-110 with branches of 2 and 2 SE-bottlenecks on CIFAR-100.

Paper (Table III): top-1 64.96, 70.12, 73.70 % of exits 1 to 3.
"""

_base_ = './resnet110_multi-exit-31_300e_cifar100.py'

model = dict(exits=dict(levels=(2, 2)))
