"""CIFAR-10 in batches of 128: 45,000 images to train on, 5,000 to choose an epoch on."""

_base_ = 'mmpretrain::_base_/datasets/cifar10_bs16.py'

train_dataloader = dict(batch_size=128, dataset=dict(indices=45000))
val_dataloader = dict(batch_size=128, dataset=dict(split='train', indices=-5000))
test_dataloader = dict(batch_size=128)
