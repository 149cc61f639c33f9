"""ResNet-18 with branches of 3, 2 and 1 SE-bottlenecks on ImageNet.

Paper (Table II): top-1 63.91, 65.34, 67.64, 68.96 % of exits 1 to 4.
"""

_base_ = './resnet18_multi-exit-432_60e_in1k.py'

model = dict(exits=dict(levels=(3, 2, 1)))
