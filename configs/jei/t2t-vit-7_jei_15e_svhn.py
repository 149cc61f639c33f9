"""JEI-DNN on a frozen T2T-ViT-7, on SVHN; λ is 1.

python tools/train.py CONFIG --cfg-options custom_hooks.0.cost_weight=0.3
"""

_base_ = './t2t-vit-7_60e_svhn.py'

model = dict(
    type='mmdyn.MultiExitClassifier',
    exits=[dict(type='mmdyn.LinearExit', stage=layer) for layer in range(1, 7)],
    policy=dict(type='mmdyn.LearnedGatePolicy'),
)
load_from = 'work_dirs/t2t-vit-7_60e_svhn/epoch_60.pth'

custom_hooks = [
    dict(type='mmdyn.JEIScheduleHook', cost_weight=1.0, warmup_epochs=5, bi_switch=100)
]
optim_wrapper = dict(
    _delete_=True, optimizer=dict(type='Adam', lr=0.01, weight_decay=5e-4)
)
param_scheduler = []
train_cfg = dict(by_epoch=True, max_epochs=15, val_interval=1)
val_cfg = dict(type='mmdyn.OperatingPointValLoop', points=['adaptive'])
test_cfg = dict(type='mmdyn.OperatingPointTestLoop')
test_evaluator = [dict(type='Accuracy', topk=1), dict(type='mmdyn.UncertaintyReport')]
find_unused_parameters = True  # exits and gates take turns
