"""ResNet-56 with branches of 1 and 3 SE-bottlenecks on CIFAR-100.

Paper (Table III): top-1 59.87, 69.20, 73.02 % of exits 1 to 3.
"""

_base_ = './resnet56_multi-exit-31_300e_cifar100.py'

model = dict(exits=dict(levels=(1, 3)))
