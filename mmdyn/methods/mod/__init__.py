"""Mixture-of-Depths: CNN Mixture-of-Depths, Cakaj, Mehnert, Yang, 2024."""

from mmdyn.registry import MODELS

MODELS.offer('mmdyn.methods.mod.resnet', 'ResNetMoD')
MODELS.offer('mmdyn.methods.mod.vgg', 'VGGMoD')
MODELS.offer('mmdyn.methods.mod.mobilenet_v2', 'MobileNetV2MoD')
