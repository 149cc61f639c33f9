"""mmseg's FCN on Cityscapes, crops of 769×769, with a ResNet50-MoD.

    tools/dist_train.sh \\
        configs/segmentation/fcn_r50-d8_mod_4xb2-80k_cityscapes-769x769.py 4

The stock config except for the backbone: stride 8 by dilations, SyncBN, auxiliary head,
SGD 0.01, 80k iterations of 8 images. mmseg's ResNet-V1c weights fill all but the MoD
blocks. If you have a MoD network with a deep stem trained on ImageNet, set it as
``model.pretrained``. Cakaj, Mehnert, Yang, section S2.
"""

_base_ = '../_base_/mmseg/fcn_r50-d8_4xb2-80k_cityscapes-769x769.py'

model = dict(backbone=dict(type='mmdyn.ResNetMoD', deep_stem=True))
test_cfg = dict(type='mmdyn.OperatingPointTestLoop', metric='mIoU')
