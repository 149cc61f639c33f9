"""A mixture of 12 nodes with four exits in mmseg's FCN on Cityscapes, crops of 512×1024.

    tools/dist_train.sh configs/segmentation/fcn_cnmm_4xb2-80k_cityscapes-512x1024.py 4
    python tools/analysis_tools/cnmm_frontier.py \\
        configs/segmentation/fcn_cnmm_4xb2-80k_cityscapes-512x1024.py CHECKPOINT

Nodes have stride 4 or 8, the strides of a ResNet-D8. Trained from scratch, the mixing
weights without weight decay. Ruiz and Verbeek's supplement shows predictions of such a
model at several costs (Fig. 10) and gives neither its size nor a schedule: both are ours.
"""

_base_ = '../_base_/mmseg/fcn_r50-d8_4xb2-80k_cityscapes-512x1024.py'

norm_cfg = dict(type='SyncBN', requires_grad=True)
exit_head = dict(
    type='FCNHead',
    channels=128,
    num_convs=1,
    concat_input=False,
    dropout_ratio=0.1,
    norm_cfg=norm_cfg,
    align_corners=False,
)
model = dict(
    type='mmdyn.MultiExitEncoderDecoder',
    pretrained=None,
    backbone=dict(
        _delete_=True,
        type='mmdyn.CNMM',
        scales=(0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1),
        channels=(64, 128),
        stem='imagenet',
        out_indices=(3, 5, 8, 11),
        norm_cfg=norm_cfg,
    ),
    decode_head=dict(
        in_channels=128, in_index=-1, channels=128, num_convs=1, concat_input=False
    ),
    auxiliary_head=None,
    exits=[dict(stage=stage, head=exit_head) for stage in (1, 2, 3)],
)
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys={'backbone.gamma': dict(decay_mult=0)})
)
val_cfg = dict(type='mmdyn.OperatingPointValLoop')
test_cfg = dict(type='mmdyn.OperatingPointTestLoop', metric='mIoU')
