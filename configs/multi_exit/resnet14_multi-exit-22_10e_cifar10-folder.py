"""Branches of 2 and 2 SE-bottlenecks."""

_base_ = ['./resnet14_multi-exit-31_10e_cifar10-folder.py']

model = dict(exits=dict(levels=(2, 2)))
