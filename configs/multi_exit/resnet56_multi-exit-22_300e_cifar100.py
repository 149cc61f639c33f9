"""ResNet-56 with branches of 2 and 2 SE-bottlenecks on CIFAR-100.

Paper (Table III): top-1 64.46, 69.26, 72.16 % of exits 1 to 3.
"""

_base_ = './resnet56_multi-exit-31_300e_cifar100.py'

model = dict(exits=dict(levels=(2, 2)))
