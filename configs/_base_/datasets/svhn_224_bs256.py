"""SVHN's cropped digits at 224×224 in batches of 256; see svhn.py for how to get them."""

_base_ = './svhn.py'

# No flips: most mirrored digits are not digits.
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=224, interpolation='bicubic'),
    dict(type='RandomCrop', crop_size=224, padding=28),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=224, interpolation='bicubic'),
    dict(type='PackInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
