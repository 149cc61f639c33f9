"""The ResNet-20 on handwritten digits that the JEI-DNN of this folder starts from.

python tools/dataset_converters/digits.py data/digits
python tools/train.py configs/jei/resnet20_15e_digits.py
"""

_base_ = ['../_base_/datasets/digits.py', '../_base_/default_runtime.py']

model = dict(
    type='ImageClassifier',
    backbone=dict(type='mmdyn.ResNet', depth=20, in_channels=1),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=64,
        loss=dict(type='CrossEntropyLoss'),
    ),
)

# The rest of the training images is for validation and calibration.
train_dataloader = dict(dataset=dict(indices=[i for i in range(1437) if i % 6]))
val_dataloader = dict(dataset=dict(data_prefix='train', indices=range(0, 1437, 6)))
optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
)
max_epochs = 15
param_scheduler = dict(
    type='OneCycleLR',
    eta_max=0.1,
    total_steps=max_epochs * 38,  # 1,197 images in batches of 32
    by_epoch=False,
)
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=max_epochs)
val_cfg = dict()
test_cfg = dict()
