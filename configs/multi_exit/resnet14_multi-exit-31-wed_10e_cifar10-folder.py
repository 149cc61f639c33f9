"""Exits that learn from their weighted ensemble (WED)."""

_base_ = ['./resnet14_multi-exit-31_10e_cifar10-folder.py']

model = dict(distillation=dict(type='mmdyn.MultiExitDistillation', teacher='wed'))
