"""mmseg's config of this name, wherever mmseg is installed.

``mmseg::fcn/…`` would do, but MMEngine then asks for a distribution called
mmsegmentation; that of the maintained fork has another name.
"""

_base_ = (
    __import__('mmseg').__path__[0]
    + '/.mim/configs/fcn/fcn_r50-d8_4xb2-80k_cityscapes-512x1024.py'
)
