"""The Faster R-CNN of faster-rcnn_r18_fpn_digits.py with Mixture-of-Depths blocks.

    python tools/train.py configs/detection/faster-rcnn_r18_fpn_mod_digits.py

They process a quarter of the channels because the network is narrow.
"""

_base_ = 'faster-rcnn_r18_fpn_digits.py'

model = dict(backbone=dict(type='mmdyn.ResNetMoD', divisor=4))
