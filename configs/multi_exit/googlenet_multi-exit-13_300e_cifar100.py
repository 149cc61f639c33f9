"""GoogLeNet with branches of 1 and 3 SE-bottlenecks on CIFAR-100.

Paper (Table III): top-1 76.49, 80.65, 79.65 % of exits 1 to 3.
"""

_base_ = './googlenet_multi-exit-31_300e_cifar100.py'

model = dict(exits=dict(levels=(1, 3)))
