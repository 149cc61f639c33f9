"""CIFAR-10 as in cifar10_bs128.py, random crops padded with reflections.

Spatial masks would skip blank borders, which test images do not have, and so execute
less in training than afterwards.
"""

_base_ = 'cifar10_bs128.py'

train_pipeline = [
    # The first only pads: RandomCrop's own padding is always black.
    dict(type='RandomCrop', crop_size=40, pad_if_needed=True, padding_mode='reflect'),
    dict(type='RandomCrop', crop_size=32),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
