model = dict(
    type='ImageClassifier',
    backbone=dict(type='mmdyn.ResNetMoD', depth=18, stem='cifar'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=512,
        loss=dict(type='CrossEntropyLoss'),
    ),
)
