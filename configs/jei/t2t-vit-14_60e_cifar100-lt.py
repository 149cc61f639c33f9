"""T2T-ViT-14 on long-tailed CIFAR-100, from weights of ImageNet.

    python tools/model_converters/t2t_vit.py OFFICIAL_CHECKPOINT t2t-vit-14.pth
    python tools/train.py CONFIG --cfg-options load_from=t2t-vit-14.pth

The authors' transfer learning: 60 epochs of SGD, cosine.
"""

_base_ = ['../_base_/datasets/cifar100_lt_224_bs64.py', '../_base_/default_runtime.py']

model = dict(
    type='ImageClassifier',
    backbone=dict(type='mmdyn.T2TViT', arch='14', drop_path_rate=0.1),
    head=dict(
        type='LinearClsHead',
        num_classes=100,
        in_channels=384,
        loss=dict(type='CrossEntropyLoss'),
    ),
)

optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=5e-4))
param_scheduler = dict(type='CosineAnnealingLR', T_max=60)
train_cfg = dict(by_epoch=True, max_epochs=60, val_interval=5)
val_cfg = dict()
test_cfg = dict()
