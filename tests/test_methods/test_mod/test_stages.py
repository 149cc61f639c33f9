import pytest
from helpers.stages import (
    assert_blocks_in_a_row_are_the_backbone,
    assert_stages_in_a_row_are_the_backbone,
    assert_stages_train_what_the_backbone_trains,
)
from torch import nn

from mmdyn.methods.mod.mobilenet_v2 import MobileNetV2MoD
from mmdyn.methods.mod.resnet import ResNetMoD
from mmdyn.methods.mod.vgg import VGGMoD

FIVE = (0, 1, 2, 3, 4)
BEFORE_HALVING = (0, 1, 2, 4, 7)  # layers of a MobileNetV2


@pytest.mark.parametrize(
    'build',
    [
        lambda: ResNetMoD(34, out_indices=(0, 1, 2, 3)),
        lambda: VGGMoD(16, out_indices=FIVE),
        lambda: VGGMoD(
            16, divisor=4, num_stages=3, with_last_pool=False, out_indices=(0, 1, 2)
        ),
        lambda: MobileNetV2MoD(out_indices=BEFORE_HALVING),
        lambda: MobileNetV2MoD(
            'large', divisor=4, widen_factor=0.5, out_indices=BEFORE_HALVING
        ),
    ],
)
def test_stages_in_a_row_are_the_backbone(build):
    assert_stages_in_a_row_are_the_backbone(build())


def test_a_vggs_own_classifier_is_part_of_the_last_stage():
    backbone = VGGMoD(16)
    # As after num_classes=7, for images of 64 and with fewer weights.
    backbone.classifier = nn.Sequential(nn.Linear(512 * 2 * 2, 6), nn.Linear(6, 7))
    backbone.out_indices = (0, 1, 2, 3, 5)
    assert assert_stages_in_a_row_are_the_backbone(backbone).shape == (2, 7)


@pytest.mark.parametrize('backbone', [MobileNetV2MoD, VGGMoD])
def test_stages_train_what_the_backbone_trains(backbone):
    if backbone is MobileNetV2MoD:
        arguments = dict(frozen_stages=3, with_cp=True)
    else:
        arguments = dict(depth=16, frozen_stages=2)
    assert_stages_train_what_the_backbone_trains(backbone(**arguments))


def test_blocks_in_a_row_are_the_backbone():
    channels = [64] * 2 + [128] * 2 + [256] * 2 + [512] * 2
    assert_blocks_in_a_row_are_the_backbone(ResNetMoD(18), channels)
