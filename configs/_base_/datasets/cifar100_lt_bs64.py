"""Long-tailed CIFAR-100, imbalance 100: 10,847 training images, in batches of 64.

9,762 of them are for training and a tenth, 1,085, for thresholds. The 10,000 test images
are balanced.
"""

_base_ = './cifar100_bs64.py'

train_dataloader = dict(dataset=dict(type='mmdyn.CIFAR100LT', indices=9762))
val_dataloader = dict(dataset=dict(type='mmdyn.CIFAR100LT', indices=-1085))
