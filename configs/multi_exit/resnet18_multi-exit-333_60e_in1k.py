"""ResNet-18 with branches of 3, 3 and 3 SE-bottlenecks on ImageNet.

Paper (Table II): top-1 64.08, 67.05, 70.01, 69.40 % of exits 1 to 4.
"""

_base_ = './resnet18_multi-exit-432_60e_in1k.py'

model = dict(exits=dict(levels=(3, 3, 3)))
