"""The FCN of fcn_r18-d8_digits.py with exits after stages 2 and 3.

    python tools/train.py configs/segmentation/fcn_r18-d8_multi-exit_digits.py

An image exits where the mean confidence of its pixels reaches a threshold. To let
each window of 96×96 pixels exit separately, test with

    --cfg-options model.test_cfg.mode=slide "model.test_cfg.crop_size=(96,96)" \\
        "model.test_cfg.stride=(96,96)"
"""

_base_ = 'fcn_r18-d8_digits.py'

model = dict(
    type='mmdyn.MultiExitEncoderDecoder',
    exits=dict(
        head=dict(
            type='FCNHead',
            channels=32,
            dropout_ratio=0.1,
            norm_cfg=dict(type='SyncBN', requires_grad=True),
            align_corners=False,
            loss_decode={{_base_.model.decode_head.loss_decode}},
        ),
        levels=(4, 3),
    ),
    policy=dict(
        type='mmdyn.ConfidencePolicy',
        thresholds=dict(quick=0.93, balanced=0.945, careful=0.96),
    ),
)
