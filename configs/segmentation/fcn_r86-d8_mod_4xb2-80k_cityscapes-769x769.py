"""mmseg's FCN on Cityscapes, crops of 769×769, with a ResNet86-MoD.

    tools/dist_train.sh \\
        configs/segmentation/fcn_r86-d8_mod_4xb2-80k_cityscapes-769x769.py 4

The deeper network of the paper's L variants: more MoD blocks in the third stage, for
about the cost of a ResNet-50. It loads the weights of mmseg's ResNet-50 that fit.
"""

_base_ = 'fcn_r50-d8_mod_4xb2-80k_cityscapes-769x769.py'

model = dict(backbone=dict(depth=86))
