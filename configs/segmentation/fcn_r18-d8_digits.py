"""mmseg's FCN on a narrow ResNet-18-D8: the dense network, on scenes of digits.

python tools/dataset_converters/digits.py data/digits-cityscapes --layout cityscapes
python tools/train.py configs/segmentation/fcn_r18-d8_digits.py
"""

_base_ = '../_base_/mmseg/fcn_r18-d8_4xb2-80k_cityscapes-512x1024.py'

data_root = 'data/digits-cityscapes/'
crop_size = (96, 192)
# Nine tenths of the pixels are background, which has the class `sky`.
class_weight = [1.0] * 10 + [0.3] + [1.0] * 8
model = dict(
    data_preprocessor=dict(size=crop_size),
    pretrained=None,
    backbone=dict(base_channels=16, stem_channels=16, zero_init_residual=False),
    decode_head=dict(
        in_channels=128, channels=64, loss_decode=dict(class_weight=class_weight)
    ),
    auxiliary_head=dict(
        in_channels=64, channels=32, loss_decode=dict(class_weight=class_weight)
    ),
)
train_pipeline = [  # no flips: most mirrored digits are not digits
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(192, 96), ratio_range=(0.8, 1.25), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.95),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(data_root=data_root, pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(data_root=data_root, pipeline=test_pipeline),
)
test_dataloader = val_dataloader

optim_wrapper = dict(optimizer=dict(lr=0.1))
max_iters = 500
param_scheduler = [
    dict(type='OneCycleLR', eta_max=0.2, total_steps=max_iters, by_epoch=False)
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
val_cfg = dict(type='mmdyn.OperatingPointValLoop')
test_cfg = dict(type='mmdyn.OperatingPointTestLoop', metric='mIoU')
default_hooks = dict(
    logger=dict(interval=50), checkpoint=dict(interval=max_iters, max_keep_ckpts=1)
)
randomness = dict(seed=0)
