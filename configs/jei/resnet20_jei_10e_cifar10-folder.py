"""JEI-DNN on a frozen ResNet-20, on a fifth of CIFAR-10's images; λ is 1.

python tools/train.py configs/jei/resnet20_10e_cifar10-folder.py
python tools/train.py CONFIG --cfg-options custom_hooks.0.cost_weight=3
"""

_base_ = './resnet20_10e_cifar10-folder.py'

model = dict(
    type='mmdyn.MultiExitClassifier',
    cut='block',
    exits=[dict(type='mmdyn.LinearExit', stage=block) for block in range(1, 9)],
    policy=dict(
        type='mmdyn.LearnedGatePolicy', thresholds=dict(gates=0.5, early=0.3, late=0.7)
    ),
)
load_from = 'work_dirs/resnet20_10e_cifar10-folder/epoch_10.pth'

custom_hooks = [
    dict(type='mmdyn.JEIScheduleHook', cost_weight=1.0, warmup_epochs=3, bi_switch=40)
]
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='Adam', lr=0.01, weight_decay=5e-4)
)
param_scheduler = []
val_cfg = dict(type='mmdyn.OperatingPointValLoop')
test_cfg = dict(type='mmdyn.OperatingPointTestLoop')
test_evaluator = [dict(type='Accuracy', topk=1), dict(type='mmdyn.UncertaintyReport')]
find_unused_parameters = True  # exits and gates are trained alternately
