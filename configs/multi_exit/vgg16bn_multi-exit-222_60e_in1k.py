"""VGG-16 (BN) with branches of 2, 2 and 2 SE-bottlenecks on ImageNet.

Paper (Table II): top-1 67.39, 71.84, 74.59, 73.33 % of exits 1 to 4.
"""

_base_ = './vgg16bn_multi-exit-432_60e_in1k.py'

model = dict(exits=dict(levels=(2, 2, 2)))
