from .resnet import ResNet
from .resnet_mod import ResNetMoD

__all__ = ['ResNet', 'ResNetMoD']
