"""ResNet18-MoD on CIFAR-10.

    python tools/train.py configs/mod/resnet18_mod_200e_cifar10.py

200 epochs of SGD, batch size 128, learning rate 0.1 divided by 10 after 100 and 150:
mmpretrain's schedule: the supplement states none. Trained on 45,000 images, the best
epoch chosen on the other 5,000 (S4).
Paper (Table 11): top-1 92.37 ± 0.18 %, 255 MMACs, 4.95 M parameters.
"""

_base_ = [
    '../_base_/models/resnet18_mod_cifar.py',
    '../_base_/datasets/cifar10_bs128.py',
    '../_base_/schedules/cifar_200e.py',
    '../_base_/default_runtime.py',
]

default_hooks = dict(checkpoint=dict(save_best='accuracy/top1'))
