"""VGG-16 (BN) with branches of 2, 3 and 4 SE-bottlenecks on ImageNet.

Paper (Table II): top-1 67.16, 73.04, 76.12, 73.54 % of exits 1 to 4.
"""

_base_ = './vgg16bn_multi-exit-432_60e_in1k.py'

model = dict(exits=dict(levels=(2, 3, 4)))
