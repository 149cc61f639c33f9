"""mmdet's Faster R-CNN on VOC 2007 and 2012 with a ResNet50-MoD.

    tools/dist_train.sh configs/detection/faster-rcnn_r50_fpn_mod_1x_voc0712.py 8

The stock config except for the backbone, so with its learning rate for 16 images per step
and its evaluation on the test set of 2007, 11-point mAP. torchvision's weights fill all
but the MoD blocks. Cakaj, Mehnert, Yang (section S3) evaluate on the validation set of
2007, with 2 images per step.
"""

_base_ = 'mmdet::pascal_voc/faster-rcnn_r50_fpn_1x_voc0712.py'

model = dict(backbone=dict(type='mmdyn.ResNetMoD'))
test_cfg = dict(type='mmdyn.OperatingPointTestLoop')
