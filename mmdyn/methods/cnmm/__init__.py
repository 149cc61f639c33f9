"""Convolutional Neural Mixture Models, Ruiz, Verbeek, ICCV 2019."""

from mmdyn.registry import MODELS

MODELS.offer('mmdyn.methods.cnmm.backbone', 'CNMM')
