"""ResNet-18 whose exits learn from their weighted ensemble (WED).

Paper: top-1 66.5, 67.9, 70.1, 70.0 % of exits 1 to 4, adaptive 70.4 % at 1.3 GMACs
(Table V);
66.55, 67.94, 70.05, 70.02 %, adaptive 70.27 % at 1.29 GMACs (Table VI).
"""

_base_ = './resnet18_multi-exit-432_60e_in1k.py'

model = dict(distillation=dict(type='mmdyn.MultiExitDistillation', teacher='wed'))
