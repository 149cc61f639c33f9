"""JEI-DNN on a frozen T2T-ViT-7, on SVHN; λ is 1.

python tools/train.py CONFIG --cfg-options custom_hooks.0.cost_weight=0.3
"""

_base_ = [
    '../_base_/models/t2t-vit-7.py',
    '../_base_/datasets/svhn_224_bs256.py',
    '../_base_/schedules/jei.py',
    '../_base_/default_runtime.py',
]

model = dict(
    type='mmdyn.MultiExitClassifier',
    head=dict(num_classes=10),
    exits=[dict(type='mmdyn.LinearExit', stage=layer) for layer in range(1, 7)],
    policy=dict(type='mmdyn.LearnedGatePolicy'),
)
load_from = 'work_dirs/t2t-vit-7_60e_svhn/epoch_60.pth'

train_cfg = dict(by_epoch=True, max_epochs=15, val_interval=1)
test_evaluator = [dict(type='Accuracy', topk=1), dict(type='mmdyn.UncertaintyReport')]
