"""mmseg's FCN on Cityscapes, crops of 769×769, with the budgets 0.3, 0.5, 0.7.

    tools/dist_train.sh \\
        configs/segmentation/fcn_r50-d8_spatial_4xb2-80k_cityscapes-769x769.py 4

Starts from mmseg's trained FCN, which is also the teacher: each pixel's logits are
distilled. Schedule: the stock one.
"""

_base_ = '../_base_/mmseg/fcn_r50-d8_4xb2-80k_cityscapes-769x769.py'

model = dict(
    pretrained=None,
    backbone=dict(type='mmdyn.SpatialResNet', deep_stem=True, budgets=(0.3, 0.5, 0.7)),
)
load_from = (
    'https://download.openmmlab.com/mmsegmentation/v0.5/fcn/'
    'fcn_r50-d8_769x769_80k_cityscapes/'
    'fcn_r50-d8_769x769_80k_cityscapes_20200606_195749-f5caeabc.pth'
)
find_unused_parameters = True  # a step uses the modules of one budget
custom_hooks = [
    dict(type='mmdyn.BudgetScheduleHook'),
    dict(type='mmdyn.DistillationHook', student='decode_head.conv_seg'),
]
val_cfg = dict(type='mmdyn.OperatingPointValLoop')
test_cfg = dict(type='mmdyn.OperatingPointTestLoop', metric='mIoU')
