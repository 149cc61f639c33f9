"""ResNet-18 whose branches alone are trained (BO), on a trained backbone.

    tools/dist_train.sh CONFIG 4 --cfg-options load_from=resnet18.pth

where resnet18.pth has the weights of mmpretrain's resnet18_8xb32_in1k.
Paper (Table V): top-1 64.3, 66.2, 67.9, 69.8 % of exits 1 to 4; adaptive 69.2 % at 1.3
GMACs.
"""

_base_ = './resnet18_multi-exit-432_60e_in1k.py'

find_unused_parameters = True
custom_hooks = [
    dict(type='mmdyn.TrainingStrategyHook', strategy='branches_only', first_phase=2)
]
