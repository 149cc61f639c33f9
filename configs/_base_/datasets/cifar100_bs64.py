"""CIFAR-100 in batches of 64, 5,000 training images held out for thresholds."""

_base_ = './cifar100_bs128.py'

train_dataloader = dict(batch_size=64)
