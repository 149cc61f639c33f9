"""The smallest mixture with two exits and three scales, for tests and first tries.

python tools/dataset_converters/digits.py data/digits
python tools/train.py configs/cnmm/cnmm-small_5e_digits.py
"""

_base_ = './cnmm_15e_digits.py'

model = dict(
    backbone=dict(scales=(0, 0, 1, 2, 1, 2), channels=(4, 8, 16), out_indices=(3, 5)),
    head=dict(in_channels=16),
    exits=[dict(type='mmdyn.LinearExit', stage=1)],
)

max_epochs = 5
param_scheduler = [
    dict(type='CosineAnnealingLR', by_epoch=False, end=max_epochs * 38)  # iterations
]
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
