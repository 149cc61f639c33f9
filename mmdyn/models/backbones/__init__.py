from .cnmm import CNMM
from .densenet_cifar import DenseNetCIFAR
from .googlenet_cifar import GoogLeNetCIFAR
from .mobilenet_v2_mod import MobileNetV2MoD
from .msdnet import MSDNet
from .resnet import ResNet
from .resnet_mod import ResNetMoD
from .spatial_resnet import SpatialResNet
from .vgg_mod import VGGMoD

__all__ = [
    'CNMM',
    'DenseNetCIFAR',
    'GoogLeNetCIFAR',
    'MSDNet',
    'MobileNetV2MoD',
    'ResNet',
    'ResNetMoD',
    'SpatialResNet',
    'VGGMoD',
]
