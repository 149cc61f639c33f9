"""A mixture of 14 nodes in mmdet's Faster R-CNN on VOC 2007 and 2012.

    tools/dist_train.sh configs/detection/faster-rcnn_cnmm_fpn_1x_voc0712.py 8

The FPN gets maps of a ResNet-50's strides and channels, so that neck and heads are the
stock ones. The mixture is trained from scratch: if you have weights trained on
ImageNet, set them in ``model.backbone.init_cfg``. No paper has this model; its size and
its operating points are ours.
"""

_base_ = 'mmdet::pascal_voc/faster-rcnn_r50_fpn_1x_voc0712.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmdyn.CNMM',
        scales=(0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2, 3, 3, 3),
        channels=(64, 96, 128, 192),
        stem='imagenet',
        out_indices=(2, 5, 10, 13),
        out_channels=(256, 512, 1024, 2048),
        keep=(30, 50, 70),
        norm_cfg=dict(type='SyncBN', requires_grad=True),  # nothing is pretrained
    )
)
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys={'backbone.gamma': dict(decay_mult=0)})
)
val_cfg = dict(type='mmdyn.OperatingPointValLoop')
test_cfg = dict(type='mmdyn.OperatingPointTestLoop')
