"""VGG16-BN-MoD on CIFAR-10.

    python tools/train.py configs/mod/vgg16bn_mod_200e_cifar10.py

200 epochs of SGD, batch size 128, learning rate 0.1 divided by 10 after 100 and 150:
mmpretrain's schedule: the supplement states none. Trained on 45,000 images, the best
epoch chosen on the other 5,000 (S4).
Paper (Table 11): top-1 91.79 ± 0.14 %, 155 MMACs, 9.83 M parameters.
"""

_base_ = [
    '../_base_/models/vgg16bn_mod_cifar.py',
    '../_base_/datasets/cifar10_bs128.py',
    '../_base_/schedules/cifar_200e.py',
    '../_base_/default_runtime.py',
]

default_hooks = dict(checkpoint=dict(save_best='accuracy/top1'))
