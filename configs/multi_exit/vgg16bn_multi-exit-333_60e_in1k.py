"""VGG-16 (BN) with branches of 3, 3 and 3 SE-bottlenecks on ImageNet.

Paper (Table II): top-1 70.12, 73.45, 75.59, 73.47 % of exits 1 to 4.
"""

_base_ = './vgg16bn_multi-exit-432_60e_in1k.py'

model = dict(exits=dict(levels=(3, 3, 3)))
