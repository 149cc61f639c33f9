"""mmdet's Faster R-CNN on VOC 2007 and 2012 with the budgets 0.3, 0.5, 0.7.

    tools/dist_train.sh configs/detection/faster-rcnn_r50_fpn_spatial_1x_voc0712.py 8

Starts from mmdet's trained Faster R-CNN, whose FPN maps it learns. The stem and the first
stage stay as they are (``frozen_stages=1``) except for the modules of each budget, and
all norms keep their statistics (``norm_eval``), as in the stock config.
"""

_base_ = 'mmdet::pascal_voc/faster-rcnn_r50_fpn_1x_voc0712.py'

model = dict(backbone=dict(type='mmdyn.SpatialResNet', budgets=(0.3, 0.5, 0.7)))
load_from = (
    'https://download.openmmlab.com/mmdetection/v2.0/pascal_voc/'
    'faster_rcnn_r50_fpn_1x_voc0712/'
    'faster_rcnn_r50_fpn_1x_voc0712_20220320_192712-54bef0f3.pth'
)
find_unused_parameters = True  # a step uses the modules of one budget
custom_hooks = [
    dict(type='mmdyn.BudgetScheduleHook'),
    dict(type='mmdyn.DistillationHook', student='neck', loss='features'),
]
val_cfg = dict(type='mmdyn.OperatingPointValLoop')
test_cfg = dict(type='mmdyn.OperatingPointTestLoop')
