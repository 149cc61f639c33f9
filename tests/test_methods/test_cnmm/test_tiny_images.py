"""Images smaller than the stride of 32: the last maps are one position."""

import pytest
import torch
from helpers.cnmm_reference import run_recursion
from helpers.reference import (
    TINY_SIZES,
    assert_maps_shrink_to_one,
    outputs_of,
    randomize_norms,
)
from torch import nn

from mmdyn.methods.cnmm.backbone import CNMM


@pytest.mark.parametrize('size', TINY_SIZES)
def test_mixture_of_networks(size):
    scales = (0, 0, 1, 0, 2, 3, 1, 2, 3)
    model = CNMM(scales, (4, 6, 8, 10), stem='imagenet', out_indices=(3, 6, 7, 8))
    nn.init.normal_(randomize_norms(model).gamma, std=2)
    image = torch.rand(2, 3, *size)
    maps = outputs_of(model, image)
    assert_maps_shrink_to_one(maps)
    with torch.no_grad():
        expected = run_recursion(model, model.functions, model.mixing_weights(), image)
    for node, found in zip(model.out_indices, maps):
        torch.testing.assert_close(found, expected[node])
