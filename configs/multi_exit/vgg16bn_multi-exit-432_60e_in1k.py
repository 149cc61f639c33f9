"""VGG-16 (BN) with branches of 4, 3 and 2 SE-bottlenecks on ImageNet.

    tools/dist_train.sh configs/multi_exit/vgg16bn_multi-exit-432_60e_in1k.py 4

The exits follow the second, third and fourth pooling (section III-A); the last exit is
VGG's own classifier.
Paper (Table II): top-1 71.34, 73.26, 74.86, 73.36 % of exits 1 to 4; adaptive 73.36 % at
7.02 GMACs.
"""

_base_ = [
    'mmpretrain::_base_/datasets/imagenet_bs64.py',
    '../_base_/schedules/multi-exit_60e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    type='mmdyn.MultiExitClassifier',
    backbone=dict(
        type='VGG',
        depth=16,
        num_classes=1000,
        norm_cfg=dict(type='BN'),
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://download.openmmlab.com/mmclassification/v0/vgg/'
            'vgg16_bn_batch256_imagenet_20210208-7e55cd29.pth',
            prefix='backbone',
        ),
    ),
    head=dict(type='ClsHead', loss=dict(type='CrossEntropyLoss')),
    exits=dict(type='mmdyn.SEBottleneckExit', levels=(4, 3, 2)),
)
