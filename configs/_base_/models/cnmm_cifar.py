"""The full-size mixture: 13 nodes, 66 functions, 94 M MACs at 32×32, four exits."""

model = dict(
    type='mmdyn.MultiExitClassifier',
    backbone=dict(
        type='mmdyn.CNMM',
        scales=(0, 0, 1, 2, 0, 1, 2, 0, 1, 2, 1, 2, 2),
        channels=(16, 32, 64),
        out_indices=(3, 6, 9, 12),
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=100,
        in_channels=64,
        loss=dict(type='CrossEntropyLoss'),
    ),
    exits=[
        dict(type='mmdyn.LinearExit', stage=1),
        dict(type='mmdyn.LinearExit', stage=2),
        dict(type='mmdyn.LinearExit', stage=3),
    ],
)
