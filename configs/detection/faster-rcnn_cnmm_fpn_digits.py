"""A mixture of 10 nodes in the Faster R-CNN of faster-rcnn_r18_fpn_digits.py.

    python tools/train.py configs/detection/faster-rcnn_cnmm_fpn_digits.py

The FPN gets the strides and channels of the ResNet, so that neck and heads are unchanged.
Training decides which functions can be removed without disconnecting an output.
"""

_base_ = 'faster-rcnn_r18_fpn_digits.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmdyn.CNMM',
        scales=(0, 0, 0, 1, 1, 1, 2, 2, 3, 3),
        channels=(16, 24, 32, 48),
        stem='imagenet',
        out_indices=(2, 5, 7, 9),
        out_channels=(16, 32, 64, 128),
        temperature=2.0,
        keep=(16, 24, 32),
    )
)
optim_wrapper = dict(
    # Slowly, so that no chain dominates before the other functions are trained.
    paramwise_cfg=dict(custom_keys={'backbone.gamma': dict(lr_mult=0.1, decay_mult=0)})
)
# Not OneCycleLR, which would give the mixing weights the learning rate of the others.
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, end=60),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=60, end=300),
]
