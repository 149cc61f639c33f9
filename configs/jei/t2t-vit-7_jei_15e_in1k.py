"""JEI-DNN on a frozen T2T-ViT-7, on ImageNet; λ is 1.

python tools/train.py CONFIG --cfg-options custom_hooks.0.cost_weight=0.3
"""

_base_ = [
    '../_base_/models/t2t-vit-7.py',
    'mmpretrain::_base_/datasets/imagenet_bs64_t2t_224.py',
    '../_base_/schedules/jei.py',
    '../_base_/default_runtime.py',
]

model = dict(
    type='mmdyn.MultiExitClassifier',
    head=dict(num_classes=1000),
    exits=[dict(type='mmdyn.LinearExit', stage=layer) for layer in range(1, 7)],
    policy=dict(type='mmdyn.LearnedGatePolicy'),
)
load_from = 't2t-vit-7.pth'  # of tools/model_converters/t2t_vit.py

# Half of the validation images for gates and calibration, the rest to test on.
val_dataloader = dict(dataset=dict(indices=range(0, 50000, 2)))
test_dataloader = dict(dataset=dict(indices=range(1, 50000, 2)))
train_cfg = dict(by_epoch=True, max_epochs=15, val_interval=1)
test_evaluator = [dict(type='Accuracy', topk=1), dict(type='mmdyn.UncertaintyReport')]
