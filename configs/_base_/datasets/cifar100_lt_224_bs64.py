"""Long-tailed CIFAR-100, imbalance 100, at 224×224 in batches of 64."""

_base_ = './cifar100_224_bs64.py'

train_dataloader = dict(dataset=dict(type='mmdyn.CIFAR100LT', indices=9762))
val_dataloader = dict(dataset=dict(type='mmdyn.CIFAR100LT', indices=-1085))
