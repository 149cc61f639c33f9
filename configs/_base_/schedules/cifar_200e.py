_base_ = 'mmpretrain::_base_/schedules/cifar10_bs128.py'

test_cfg = dict(type='mmdyn.OperatingPointTestLoop')
