"""A mixture of 10 nodes with three exits in the FCN of fcn_r18-d8_digits.py.

    python tools/train.py configs/segmentation/fcn_cnmm_digits.py
    python tools/analysis_tools/cnmm_frontier.py \\
        configs/segmentation/fcn_cnmm_digits.py work_dirs/fcn_cnmm_digits/iter_500.pth
"""

_base_ = 'fcn_r18-d8_digits.py'

norm_cfg = dict(type='SyncBN', requires_grad=True)
exit_head = dict(
    type='FCNHead',
    channels=64,
    num_convs=1,
    concat_input=False,
    norm_cfg=norm_cfg,
    align_corners=False,
    loss_decode={{_base_.model.decode_head.loss_decode}},
)
model = dict(
    type='mmdyn.MultiExitEncoderDecoder',
    backbone=dict(
        _delete_=True,
        type='mmdyn.CNMM',
        scales=(0, 0, 1, 1, 1, 1, 1, 1, 1, 1),
        channels=(16, 48),
        stem='imagenet',
        out_indices=(3, 6, 9),
        temperature=2.0,
        norm_cfg=norm_cfg,
    ),
    decode_head=dict(
        in_channels=48, in_index=-1, channels=64, num_convs=1, concat_input=False
    ),
    auxiliary_head=None,
    exits=[dict(stage=stage, head=exit_head) for stage in (1, 2)],
)
optim_wrapper = dict(
    # Slowly, so that no chain dominates before the other functions are trained.
    paramwise_cfg=dict(custom_keys={'backbone.gamma': dict(lr_mult=0.1, decay_mult=0)})
)
# Not OneCycleLR, which would give the mixing weights the learning rate of the others.
max_iters = 500
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, end=100),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=100, end=max_iters),
]
