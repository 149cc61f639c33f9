"""ResNet-18 with branches of 2, 2 and 2 SE-bottlenecks on ImageNet.

Paper (Table II): top-1 60.70, 65.43, 69.19, 69.26 % of exits 1 to 4.
"""

_base_ = './resnet18_multi-exit-432_60e_in1k.py'

model = dict(exits=dict(levels=(2, 2, 2)))
