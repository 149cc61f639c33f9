"""T2T-ViT-14 on long-tailed CIFAR-100, from weights of ImageNet.

python tools/model_converters/t2t_vit.py OFFICIAL_CHECKPOINT t2t-vit-14.pth
python tools/train.py CONFIG --cfg-options load_from=t2t-vit-14.pth
"""

_base_ = [
    '../_base_/models/t2t-vit-14.py',
    '../_base_/datasets/cifar100_lt_224_bs64.py',
    '../_base_/schedules/t2t-vit_60e.py',
    '../_base_/default_runtime.py',
]

model = dict(head=dict(num_classes=100))
