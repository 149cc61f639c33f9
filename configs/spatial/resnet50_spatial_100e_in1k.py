"""ResNet-50 with the budgets 0.3, 0.5 and 0.7 on ImageNet.

    tools/dist_train.sh configs/spatial/resnet50_spatial_100e_in1k.py 4

Starts from mmpretrain's dense network, which is also the teacher. The targets are the
paper's single-budget networks: top-1 72.30, 74.96 and 75.50 % (dense: 76.13).
Schedule: mmpretrain's 100 epochs, learning rate 0.1 divided by 10 every 30 epochs, 256
images per batch; the supplement states none.
"""

_base_ = 'resnet18_spatial_100e_in1k.py'

model = dict(backbone=dict(depth=50), head=dict(in_channels=2048))
load_from = (
    'https://download.openmmlab.com/mmclassification/v0/resnet/'
    'resnet50_8xb32_in1k_20210831-ea4938fc.pth'
)

custom_hooks = [
    dict(
        type='mmdyn.BudgetScheduleHook',
        temperature=((0, 5.0), (0.3, 2.5), (0.6, 1.0)),  # falls with the learning rate
        awareness='l2',
        targets={'budget=0.3': 72.30, 'budget=0.5': 74.96, 'budget=0.7': 75.50},
    ),
    dict(type='mmdyn.DistillationHook', temperature=10),
]
