"""The FCN of fcn_r18-d8_digits.py with Mixture-of-Depths blocks.

    python tools/train.py configs/segmentation/fcn_r18-d8_mod_digits.py

They process a quarter of the channels because the network is narrow.
"""

_base_ = 'fcn_r18-d8_digits.py'

model = dict(backbone=dict(type='mmdyn.ResNetMoD', deep_stem=True, divisor=4))
