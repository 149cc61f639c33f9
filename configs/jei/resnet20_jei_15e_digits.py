"""JEI-DNN on a frozen ResNet-20, on handwritten digits.

    python tools/train.py configs/jei/resnet20_15e_digits.py
    python tools/train.py configs/jei/resnet20_jei_15e_digits.py
    python tools/analysis_tools/calibrate.py configs/jei/resnet20_jei_15e_digits.py \
        work_dirs/resnet20_jei_15e_digits/epoch_15.pth
    python tools/test.py configs/jei/resnet20_jei_15e_digits.py \
        work_dirs/resnet20_jei_15e_digits/epoch_15.pth
"""

_base_ = './resnet20_15e_digits.py'

model = dict(
    type='mmdyn.MultiExitClassifier',
    cut='block',
    exits=[dict(type='mmdyn.LinearExit', stage=block) for block in range(1, 9)],
    policy=dict(
        type='mmdyn.LearnedGatePolicy', thresholds=dict(gates=0.5, early=0.3, late=0.7)
    ),
)
load_from = 'work_dirs/resnet20_15e_digits/epoch_15.pth'

custom_hooks = [
    dict(type='mmdyn.JEIScheduleHook', cost_weight=1.0, warmup_epochs=5, bi_switch=10)
]
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='Adam', lr=0.01, weight_decay=5e-4)
)
param_scheduler = []
val_cfg = dict(type='mmdyn.OperatingPointValLoop')
test_cfg = dict(type='mmdyn.OperatingPointTestLoop')
test_evaluator = [dict(type='Accuracy', topk=1), dict(type='mmdyn.UncertaintyReport')]
find_unused_parameters = True  # exits and gates are trained alternately
