"""GoogLeNet with branches of 2 and 2 SE-bottlenecks on CIFAR-100.

Paper (Table III): top-1 76.47, 79.92, 78.89 % of exits 1 to 3.
"""

_base_ = './googlenet_multi-exit-31_300e_cifar100.py'

model = dict(exits=dict(levels=(2, 2)))
