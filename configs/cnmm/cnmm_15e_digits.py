"""A mixture of 10 nodes with three exits, on handwritten digits.

python tools/dataset_converters/digits.py data/digits
python tools/train.py configs/cnmm/cnmm_15e_digits.py
python tools/analysis_tools/cnmm_frontier.py configs/cnmm/cnmm_15e_digits.py CHECKPOINT
"""

_base_ = ['../_base_/datasets/digits.py', '../_base_/default_runtime.py']

model = dict(
    type='mmdyn.MultiExitClassifier',
    backbone=dict(
        type='mmdyn.CNMM',
        scales=(0, 0, 1, 2, 0, 1, 2, 0, 1, 2),
        channels=(8, 16, 32),
        in_channels=1,
        out_indices=(3, 6, 9),
        temperature=2.0,
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=32,
        loss=dict(type='CrossEntropyLoss'),
    ),
    exits=[
        dict(type='mmdyn.LinearExit', stage=1),
        dict(type='mmdyn.LinearExit', stage=2),
    ],
)

# Operating points are searched on held-out training images.
train_dataloader = dict(dataset=dict(indices=[i for i in range(1437) if i % 6]))
val_dataloader = dict(dataset=dict(data_prefix='train', indices=range(0, 1437, 6)))
optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True),
    # Slowly, so that no chain dominates before the other functions are trained.
    paramwise_cfg=dict(custom_keys={'backbone.gamma': dict(lr_mult=0.1, decay_mult=0)}),
)
max_epochs = 15
epoch_length = 38  # 1,197 images in batches of 32
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
