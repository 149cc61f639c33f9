"""ResNet-18 whose exits learn from their mean (MED).

Paper (Table V): top-1 66.4, 67.9, 70.0, 69.9 % of exits 1 to 4; adaptive 70.2 % at 1.3
GMACs.
"""

_base_ = './resnet18_multi-exit-432_60e_in1k.py'

model = dict(distillation=dict(type='mmdyn.MultiExitDistillation', teacher='med'))
