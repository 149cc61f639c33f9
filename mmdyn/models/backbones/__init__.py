from .cnmm import CNMM
from .mobilenet_v2_mod import MobileNetV2MoD
from .resnet import ResNet
from .resnet_mod import ResNetMoD
from .spatial_resnet import SpatialResNet
from .vgg_mod import VGGMoD

__all__ = [
    'CNMM',
    'MobileNetV2MoD',
    'ResNet',
    'ResNetMoD',
    'SpatialResNet',
    'VGGMoD',
]
