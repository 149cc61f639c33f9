import pytest
import torch
from helpers.configs import paper
from helpers.stages import (
    assert_blocks_in_a_row_are_the_backbone,
    assert_stages_in_a_row_are_the_backbone,
    assert_stages_train_what_the_backbone_trains,
)
from mmpretrain.models.backbones import (
    VGG,
    DenseNet,
    MobileNetV2,
    RegNet,
    ResNet_CIFAR,
    VisionTransformer,
)
from mmpretrain.models.backbones import ResNet as StockResNet
from torch import nn

from mmdyn import CostMeter, count_macs
from mmdyn.models.resnet import ResNet
from mmdyn.models.stages import cut_into_blocks, cut_into_stages
from mmdyn.models.zoo.densenet import DenseNetCIFAR
from mmdyn.models.zoo.googlenet import GoogLeNetCIFAR
from mmdyn.models.zoo.msdnet import MSDNet

FIVE = (0, 1, 2, 3, 4)
BEFORE_HALVING = (0, 1, 2, 4, 7)  # layers of a MobileNetV2
SMALL_DENSENET = dict(growth_rate=8, depths=[2, 1, 3], init_channels=12)

BACKBONES = {
    'trunk': lambda: ResNet(18, out_indices=(0, 1, 2, 3)),
    'trunk, CIFAR': lambda: ResNet(14, out_indices=(0, 1, 2)),
    'trunk, dilated': lambda: ResNet(
        50,
        strides=(1, 2, 1, 1),
        dilations=(1, 1, 2, 4),
        deep_stem=True,
        out_indices=(0, 1, 2, 3),
    ),
    'stock': lambda: StockResNet(18, out_indices=(0, 1, 2, 3)),
    'stock, deep stem': lambda: StockResNet(18, deep_stem=True, out_indices=(0, 1, 2, 3)),
    'stock, RegNet': lambda: RegNet('regnetx_400mf', out_indices=(0, 1, 2, 3)),
    'stock, CIFAR': lambda: ResNet_CIFAR(18, out_indices=(0, 1, 2, 3)),
    'VGG': lambda: VGG(16, out_indices=FIVE),
    'VGG, BN, no last pool': lambda: VGG(
        11, norm_cfg=dict(type='BN'), with_last_pool=False, out_indices=FIVE
    ),
    'VGG, two stages': lambda: VGG(
        13, num_stages=2, dilations=(1, 1), out_indices=(0, 1), ceil_mode=True
    ),
    'MobileNetV2': lambda: MobileNetV2(out_indices=BEFORE_HALVING),
    'MobileNetV2, wide': lambda: MobileNetV2(1.4, out_indices=BEFORE_HALVING),
    'DenseNet': lambda: DenseNet(out_indices=[0, 1, 2, 3]),
    'DenseNet, small': lambda: DenseNet(SMALL_DENSENET, out_indices=[0, 1, 2]),
    'DenseNet, CIFAR': lambda: DenseNetCIFAR(22, out_indices=(0, 1, 2)),
    'GoogLeNet, CIFAR': lambda: GoogLeNetCIFAR(out_indices=(0, 1, 2)),
    'MSDNet': lambda: MSDNet(out_indices=FIVE),
    'MSDNet, CIFAR': lambda: MSDNet(stem='cifar', step=2, out_indices=FIVE),
}


@pytest.mark.parametrize('name', BACKBONES)
def test_stages_in_a_row_are_the_backbone(name):
    assert_stages_in_a_row_are_the_backbone(BACKBONES[name]())


def test_a_vggs_own_classifier_is_part_of_the_last_stage():
    backbone = VGG(11, out_indices=(0, 1, 2, 3))
    # As after num_classes=7, for images of 64 and with fewer weights.
    backbone.classifier = nn.Sequential(nn.Linear(512 * 2 * 2, 6), nn.Linear(6, 7))
    backbone.num_classes = 7
    assert assert_stages_in_a_row_are_the_backbone(backbone).shape == (2, 7)


@pytest.mark.parametrize(
    'build',
    [
        lambda: MobileNetV2(frozen_stages=3, with_cp=True),
        lambda: DenseNet(SMALL_DENSENET, memory_efficient=True, frozen_stages=1),
        lambda: VGG(11, norm_cfg=dict(type='BN'), frozen_stages=2),
        lambda: DenseNetCIFAR(10, frozen_stages=1),
        lambda: GoogLeNetCIFAR(frozen_stages=1),
        lambda: MSDNet(3, 2, 2, stem='cifar'),
    ],
)
def test_stages_train_what_the_backbone_trains(build):
    assert_stages_train_what_the_backbone_trains(build())


# Lin et al., Tables II and III: depth, size of images, stages with branches, and the row
# with one, two, … SE-bottlenecks behind them.
PAPER = paper('multi_exit')
LIN_ET_AL = {
    'ResNet-18': (ResNet, 18, 224, (1, 2, 3), PAPER['table_ii']['resnet18'], '123'),
    'VGG-16': (VGG, 16, 224, (2, 3, 4), PAPER['table_ii']['vgg16bn'], '123'),
    'DenseNet-40-12': (
        lambda depth: DenseNetCIFAR(depth, stem_channels=24),
        *(40, 32, (1, 2), PAPER['table_iii']['densenet40'], '13'),
    ),
    'GoogLeNet': (
        lambda _: GoogLeNetCIFAR(),
        *(22, 32, (1, 2), PAPER['table_iii']['googlenet'], '13'),
    ),
}


@pytest.mark.parametrize('name', LIN_ET_AL)
def test_macs_to_the_ends_of_stages(name):
    build, depth, size, branched, table, row = LIN_ET_AL[name]
    *exits, total = table[row]['gmacs']
    with torch.device('meta'):
        stages, ends = cut_into_stages(build(depth)), []
        x = torch.rand(1, 3, size, size)
    meter = CostMeter()
    for stage in stages:
        with torch.no_grad(), meter:
            x = stage.forward(x)
        ends.append(meter.macs / 1e9)
    # Whatever branches cost, they are in the exits and in the total: what is left is the
    # backbone alone, up to the end of each stage that has a branch.
    expected = sum(exits) + table['plain'] - total
    rounding = 0.5 * (len(exits) + 2) * (1e-5 if depth == 40 else 0.01)
    assert sum(ends[s - 1] for s in branched) == pytest.approx(expected, abs=rounding)


def test_macs_of_mobilenet_v2_stages():
    """By hand, for images of 224×224: Sandler et al., Table 2."""

    def block(inputs, outputs, size, step=1, expand=6):
        wide, after = inputs * expand, (size // step) ** 2
        expansion = inputs * wide * size**2 if expand > 1 else 0
        return expansion + 9 * wide * after + wide * outputs * after

    expected = [
        27 * 32 * 112**2 + block(32, 16, 112, expand=1),
        block(16, 24, 112, 2) + block(24, 24, 56),
        block(24, 32, 56, 2) + 2 * block(32, 32, 28),
        block(32, 64, 28, 2)
        + 3 * block(64, 64, 14)
        + block(64, 96, 14)
        + 2 * block(96, 96, 14),
        block(96, 160, 14, 2)
        + 2 * block(160, 160, 7)
        + block(160, 320, 7)
        + 320 * 1280 * 7**2,
    ]
    x = torch.rand(1, 3, 224, 224)
    for stage, macs in zip(cut_into_stages(MobileNetV2()), expected):
        with torch.no_grad(), CostMeter() as meter:
            x = stage.forward(x)
        assert meter.macs == macs


def test_a_stage_leaves_what_it_is_given_as_it_is():
    first, second, _ = cut_into_stages(MSDNet(3, 2, 2, stem='cifar').eval())
    with torch.no_grad():
        state = first.forward(torch.rand(1, 3, 32, 32))
        before = {scale: x.clone() for scale, x in state.items()}
        second.forward(state)
    assert state.keys() == before.keys()
    assert all(torch.equal(state[scale], before[scale]) for scale in state)


def test_macs_of_resnet18_stages():
    # Lin et al., Table II, with the classifier.
    macs = [
        count_macs(ResNet(18, num_stages=n + 1), (3, 224, 224)) / 1e6 for n in range(4)
    ]
    assert macs[:3] == pytest.approx([580, 991, 1402], abs=1)
    plain = PAPER['table_ii']['resnet18']['plain']
    assert (macs[3] + 0.512) / 1e3 == pytest.approx(plain, abs=0.005)


@pytest.mark.parametrize(
    'backbone', [ResNet(14), VGG(11), MobileNetV2(), DenseNetCIFAR(10), GoogLeNetCIFAR()]
)
def test_a_copy_is_cut_at_its_own_modules(backbone):
    import copy

    other = copy.deepcopy(backbone.eval() or backbone)
    first = next(m for m in other.modules() if isinstance(m, nn.Conv2d))
    torch.nn.init.zeros_(first.weight)
    image = torch.rand(1, 3, 16, 16)
    a, b = (cut_into_stages(m)[0].forward(image) for m in (backbone, other))
    assert not torch.equal(a, b)


def test_unknown_backbone_says_what_is_known():
    known = 'VisionTransformer.*mmdyn.ResNet.*mmpretrain.VGG.*register'
    with pytest.raises(TypeError, match=known):
        cut_into_stages(VisionTransformer('deit-tiny', img_size=32, patch_size=16))


RESNETS = {
    'trunk': (lambda: ResNet(18), [64] * 2 + [128] * 2 + [256] * 2 + [512] * 2),
    'CIFAR': (lambda: ResNet(14), [16] * 2 + [32] * 2 + [64] * 2),
    'stock': (
        lambda: StockResNet(50, deep_stem=True),
        [256] * 3 + [512] * 4 + [1024] * 6 + [2048] * 3,
    ),
    'stock, CIFAR': (
        lambda: ResNet_CIFAR(18),
        [64] * 2 + [128] * 2 + [256] * 2 + [512] * 2,
    ),
}


@pytest.mark.parametrize('name', RESNETS)
def test_blocks_in_a_row_are_the_backbone(name):
    build, channels = RESNETS[name]
    assert_blocks_in_a_row_are_the_backbone(build(), channels)


def test_only_resnets_have_blocks():
    with pytest.raises(
        TypeError, match='where to cut a VGG into blocks; known: mmdyn.ResNet, mmpretrain'
    ):
        cut_into_blocks(VGG(11))
