"""The full-size mixture on CIFAR-10.

    python tools/train.py CONFIG
    python tools/analysis_tools/cnmm_frontier.py CONFIG CHECKPOINT
    python tools/test.py CONFIG CHECKPOINT

200 epochs of SGD, batch size 128, learning rate 0.1 divided by 10 after 100 and 150:
mmpretrain's schedule. Points are searched on the 5,000 training images that are left out.
"""

_base_ = [
    '../_base_/models/cnmm_cifar.py',
    '../_base_/datasets/cifar10_bs128.py',
    '../_base_/schedules/cifar_200e.py',
    '../_base_/default_runtime.py',
]

model = dict(head=dict(num_classes=10))

# Slow mixing weights, so that no chain dominates before the others are trained.
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys={'backbone.gamma': dict(lr_mult=0.1, decay_mult=0)})
)
