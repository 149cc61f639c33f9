"""A dense ResNet-14 on a fifth of CIFAR-10's images: start of the spatial networks.

python tools/train.py configs/spatial/resnet14_20e_cifar10-folder.py
"""

_base_ = ['../_base_/datasets/cifar10_folder.py', '../_base_/default_runtime.py']

model = dict(
    type='ImageClassifier',
    backbone=dict(type='mmdyn.ResNet', depth=14),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=64,
        loss=dict(type='CrossEntropyLoss'),
    ),
)

optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
)
max_epochs = 20
param_scheduler = dict(
    type='OneCycleLR',
    eta_max=0.1,
    total_steps=max_epochs * 157,  # 10,000 images in batches of 64
    by_epoch=False,
)
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=max_epochs)
val_cfg = dict()
test_cfg = dict(type='mmdyn.OperatingPointTestLoop')
