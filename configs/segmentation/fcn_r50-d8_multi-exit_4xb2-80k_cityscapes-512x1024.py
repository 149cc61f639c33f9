"""mmseg's FCN on Cityscapes, crops of 512×1024, with exits after stages 2 and 3.

    tools/dist_train.sh \\
        configs/segmentation/fcn_r50-d8_multi-exit_4xb2-80k_cityscapes-512x1024.py 4

The stock backbone, auxiliary head and decode head, which is the last exit; the others
are FCN heads with more convolutions the earlier they are. An image exits where the
mean confidence of its pixels reaches a threshold.
"""

_base_ = '../_base_/mmseg/fcn_r50-d8_4xb2-80k_cityscapes-512x1024.py'

model = dict(
    type='mmdyn.MultiExitEncoderDecoder',
    exits=dict(
        head=dict(
            type='FCNHead',
            channels=128,
            dropout_ratio=0.1,
            norm_cfg=dict(type='SyncBN', requires_grad=True),
            align_corners=False,
        ),
        levels=(4, 3),
    ),
    policy=dict(
        type='mmdyn.ConfidencePolicy',
        thresholds=dict(quick=0.8, balanced=0.9, careful=0.95),
    ),
)
val_cfg = dict(type='mmdyn.OperatingPointValLoop')
test_cfg = dict(type='mmdyn.OperatingPointTestLoop', metric='mIoU')
