model = dict(
    type='ImageClassifier',
    backbone=dict(type='mmdyn.VGGMoD', depth=16),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='StackedLinearClsHead',
        num_classes=10,
        in_channels=512,
        mid_channels=[512, 512],
        loss=dict(type='CrossEntropyLoss'),
    ),
)
