"""T2T-ViT-14, one class token to classify; the head still needs num_classes."""

model = dict(
    type='ImageClassifier',
    backbone=dict(type='mmdyn.T2TViT', arch='14', drop_path_rate=0.1),
    head=dict(type='LinearClsHead', in_channels=384, loss=dict(type='CrossEntropyLoss')),
)
