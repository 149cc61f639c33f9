"""mmseg's config of this name, wherever mmseg is installed.

``mmseg::fcn/…`` would do, but MMEngine then asks for a distribution that is called
mmsegmentation, and that of the maintained fork is not.
"""

_base_ = (
    __import__('mmseg').__path__[0]
    + '/.mim/configs/fcn/fcn_r50-d8_4xb2-80k_cityscapes-512x1024.py'
)
