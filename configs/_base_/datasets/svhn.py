"""SVHN's cropped digits, 32×32, in batches of 256; write them from their .mat files with

python tools/dataset_converters/svhn.py data/svhn --mat-dir DIR
"""

dataset_type = 'CustomDataset'
data_root = 'data/svhn'
data_preprocessor = dict(
    num_classes=10,
    mean=[111.61, 113.17, 120.56],
    std=[50.49, 51.26, 50.24],
    to_rgb=True,
)

# No flips: most mirrored digits are not digits.
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomCrop', crop_size=32, padding=4),
    dict(type='PackInputs'),
]
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
train_dataloader = dict(
    batch_size=256,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix='train',
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=256,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type, data_root=data_root, data_prefix='val', pipeline=test_pipeline
    ),
)
test_dataloader = dict(
    batch_size=256,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type, data_root=data_root, data_prefix='test', pipeline=test_pipeline
    ),
)
val_evaluator = dict(type='Accuracy', topk=1)
test_evaluator = val_evaluator
