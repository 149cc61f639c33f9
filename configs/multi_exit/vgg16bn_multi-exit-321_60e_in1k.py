"""VGG-16 (BN) with branches of 3, 2 and 1 SE-bottlenecks on ImageNet.

Paper (Table II): top-1 69.56, 71.30, 73.01, 73.38 % of exits 1 to 4.
"""

_base_ = './vgg16bn_multi-exit-432_60e_in1k.py'

model = dict(exits=dict(levels=(3, 2, 1)))
