"""JEI-DNN on a frozen T2T-ViT-14, on long-tailed CIFAR-100; λ is 1.

python tools/train.py CONFIG --cfg-options custom_hooks.0.cost_weight=0.3
"""

_base_ = [
    '../_base_/models/t2t-vit-14.py',
    '../_base_/datasets/cifar100_lt_224_bs64.py',
    '../_base_/schedules/jei.py',
    '../_base_/default_runtime.py',
]

model = dict(
    type='mmdyn.MultiExitClassifier',
    head=dict(num_classes=100),
    exits=[dict(type='mmdyn.LinearExit', stage=layer) for layer in range(1, 14)],
    policy=dict(type='mmdyn.LearnedGatePolicy'),
)
load_from = 'work_dirs/t2t-vit-14_60e_cifar100-lt/epoch_60.pth'

train_cfg = dict(by_epoch=True, max_epochs=30, val_interval=1)
test_evaluator = [dict(type='Accuracy', topk=1), dict(type='mmdyn.UncertaintyReport')]
