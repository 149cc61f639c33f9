"""A mixture of 10 nodes with three exits, on a fifth of CIFAR-10's images.

    python tools/train.py CONFIG
    python tools/analysis_tools/cnmm_frontier.py CONFIG CHECKPOINT

Operating points are searched on held-out training images.
"""

_base_ = ['../_base_/datasets/cifar10_folder.py', '../_base_/default_runtime.py']

model = dict(
    type='mmdyn.MultiExitClassifier',
    backbone=dict(
        type='mmdyn.CNMM',
        scales=(0, 0, 1, 2, 0, 1, 2, 0, 1, 2),
        channels=(16, 32, 64),
        out_indices=(3, 6, 9),
        temperature=2.0,
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=64,
        loss=dict(type='CrossEntropyLoss'),
    ),
    exits=[
        dict(type='mmdyn.LinearExit', stage=1),
        dict(type='mmdyn.LinearExit', stage=2),
    ],
)

val_dataloader = dict(dataset=dict(data_prefix='train', indices=range(1, 50000, 25)))
optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True),
    # Slowly, so that no chain dominates before the other functions are trained.
    paramwise_cfg=dict(custom_keys={'backbone.gamma': dict(lr_mult=0.1, decay_mult=0)}),
)
max_epochs = 15
epoch_length = 157  # 10,000 images in batches of 64
# Not OneCycleLR, which would give the mixing weights the learning rate of the others.
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, end=3 * epoch_length),
    dict(
        type='CosineAnnealingLR',
        by_epoch=False,
        begin=3 * epoch_length,
        end=max_epochs * epoch_length,
    ),
]
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=max_epochs)
val_cfg = dict(type='mmdyn.OperatingPointValLoop')
test_cfg = dict(type='mmdyn.OperatingPointTestLoop')
