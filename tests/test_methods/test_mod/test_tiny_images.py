"""Images smaller than the stride of 32: the last maps are one position."""

import pytest
import torch
from helpers.reference import (
    TINY_NETWORK,
    TINY_SIZES,
    assert_maps_shrink_to_one,
    outputs_of,
    randomize_norms,
)

from mmdyn.methods.mod.resnet import ResNetMoD

pytestmark = pytest.mark.parametrize('size', TINY_SIZES)


@pytest.mark.parametrize('depth', [18, 50])
def test_mixture_of_depths(depth, size):
    model = ResNetMoD(depth, divisor=4, fusion='original', **TINY_NETWORK)
    randomize_norms(model).eval()
    image = torch.rand(2, 3, *size)
    maps = outputs_of(model, image)
    assert_maps_shrink_to_one(maps)
    # With gradients nothing is changed in place; each image has channels of its own.
    alone = [model(image[i : i + 1]) for i in range(2)]
    for found, *expected in zip(maps, *alone):
        torch.testing.assert_close(found, torch.cat(expected))
