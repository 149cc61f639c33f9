"""Adaptative Inference Cost With Convolutional Neural Mixture Models, ICCV 2019."""

from mmdyn.registry import MODELS

MODELS.offer('mmdyn.methods.cnmm.backbone', 'CNMM')
