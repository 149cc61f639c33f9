"""ResNet-56 with branches of 3 and 1 bottlenecks without squeeze-and-excitation.

Paper (Table IV): top-1 57.84, 66.28, 72.47 % of exits 1 to 3; adaptive 68.08 % at 77.00
MMACs.
"""

_base_ = './resnet56_multi-exit-31_300e_cifar100.py'

model = dict(exits=dict(se=False))
