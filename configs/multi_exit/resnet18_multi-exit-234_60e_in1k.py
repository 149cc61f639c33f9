"""ResNet-18 with branches of 2, 3 and 4 SE-bottlenecks on ImageNet.

Paper (Table II): top-1 61.03, 67.42, 70.73, 69.19 % of exits 1 to 4.
"""

_base_ = './resnet18_multi-exit-432_60e_in1k.py'

model = dict(exits=dict(levels=(2, 3, 4)))
