"""DenseNet-40-12 with branches of 2 and 2 SE-bottlenecks on CIFAR-100.

Paper (Table III): top-1 72.90, 76.35, 72.18 % of exits 1 to 3.
"""

_base_ = './densenet40_multi-exit-31_300e_cifar100.py'

model = dict(exits=dict(levels=(2, 2)))
