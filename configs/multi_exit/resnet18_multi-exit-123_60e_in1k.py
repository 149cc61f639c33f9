"""ResNet-18 with branches of 1, 2 and 3 SE-bottlenecks on ImageNet.

Paper (Table II): top-1 55.34, 65.43, 69.95, 69.11 % of exits 1 to 4.
"""

_base_ = './resnet18_multi-exit-432_60e_in1k.py'

model = dict(exits=dict(levels=(1, 2, 3)))
