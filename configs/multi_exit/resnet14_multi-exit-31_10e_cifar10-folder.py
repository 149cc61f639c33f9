"""ResNet-14 with branches of 3 and 1 SE-bottlenecks, on a fifth of CIFAR-10's images.

    python tools/train.py CONFIG
    python tools/analysis_tools/search_thresholds.py CONFIG CHECKPOINT --max-macs 17e6

Thresholds are searched on held-out training images.
"""

_base_ = ['../_base_/datasets/cifar10_folder.py', '../_base_/default_runtime.py']

model = dict(
    type='mmdyn.MultiExitClassifier',
    backbone=dict(type='mmdyn.ResNet', depth=14),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=64,
        loss=dict(type='CrossEntropyLoss'),
    ),
    exits=dict(type='mmdyn.SEBottleneckExit', levels=(3, 1)),
)

val_dataloader = dict(dataset=dict(data_prefix='train', indices=range(1, 50000, 25)))
optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
)
max_epochs = 10
param_scheduler = dict(
    type='OneCycleLR',
    eta_max=0.1,
    total_steps=max_epochs * 157,  # 10,000 images in batches of 64
    by_epoch=False,
)
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=max_epochs)
val_cfg = dict(type='mmdyn.OperatingPointValLoop')
test_cfg = dict(type='mmdyn.OperatingPointTestLoop')
