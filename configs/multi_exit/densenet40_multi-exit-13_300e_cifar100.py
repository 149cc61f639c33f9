"""DenseNet-40-12 with branches of 1 and 3 SE-bottlenecks on CIFAR-100.

Paper (Table III): top-1 73.20, 76.45, 73.05 % of exits 1 to 3.
"""

_base_ = './densenet40_multi-exit-31_300e_cifar100.py'

model = dict(exits=dict(levels=(1, 3)))
