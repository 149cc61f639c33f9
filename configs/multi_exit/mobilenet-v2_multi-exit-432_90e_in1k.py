"""MobileNetV2 with branches of 4, 3 and 2 SE-bottlenecks on ImageNet, WED.

    tools/dist_train.sh configs/multi_exit/mobilenet-v2_multi-exit-432_90e_in1k.py 4

The exits follow the stages of stride 4, 8 and 16; 90 epochs (section V-A).
Paper (section V-E): 37 MMACs fewer than MobileNetV2 (71.88 %) on average, with hardly
any loss; 55 % of the images exit at exit 1, 88.86 % of them classified correctly.
"""

_base_ = [
    'mmpretrain::_base_/datasets/imagenet_bs64.py',
    '../_base_/schedules/multi-exit_60e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    type='mmdyn.MultiExitClassifier',
    backbone=dict(
        type='MobileNetV2',
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://download.openmmlab.com/mmclassification/v0/mobilenet_v2/'
            'mobilenet_v2_batch256_imagenet_20200708-3b2dc3af.pth',
            prefix='backbone',
        ),
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=1280,
        loss=dict(type='CrossEntropyLoss'),
    ),
    exits=dict(type='mmdyn.SEBottleneckExit', levels=(4, 3, 2)),
    distillation=dict(type='mmdyn.MultiExitDistillation', teacher='wed'),
)

train_cfg = dict(max_epochs=90)
param_scheduler = dict(end=90)
