"""VGG-16 (BN) with branches of 1, 2 and 3 SE-bottlenecks on ImageNet.

Paper (Table II): top-1 62.04, 71.84, 74.30, 73.07 % of exits 1 to 4.
"""

_base_ = './vgg16bn_multi-exit-432_60e_in1k.py'

model = dict(exits=dict(levels=(1, 2, 3)))
