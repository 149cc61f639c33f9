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
from mmpretrain.models.backbones import ResNet as StockResNet
from torch import nn

from mmdyn import at_operating_point, operating_points
from mmdyn.methods.spatial.resnet import SpatialResNet

pytestmark = pytest.mark.parametrize('size', TINY_SIZES)


def spatial(depth, **arguments):
    model = SpatialResNet(depth, **TINY_NETWORK, **arguments)
    for name, parameter in model.named_parameters():
        if 'mask_unit' in name:
            nn.init.normal_(parameter, std=0.3)
    return randomize_norms(model).eval()


@pytest.mark.parametrize('avg_down', [False, True])
@pytest.mark.parametrize('depth', [18, 50])
def test_dense_spatial_network_is_the_stock_one(depth, avg_down, size):
    stock = randomize_norms(StockResNet(depth, avg_down=avg_down, **TINY_NETWORK))
    model = spatial(depth, avg_down=avg_down)
    model.load_state_dict(stock.state_dict(), strict=False)
    image = torch.rand(2, 3, *size)
    maps = outputs_of(model, image)
    assert_maps_shrink_to_one(maps)
    for found, expected in zip(maps, outputs_of(stock, image)):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(('depth', 'mask_stride'), [(18, 1), (18, 3), (50, 1)])
def test_sparse_spatial_network_is_the_masked_one(depth, mask_stride, size):
    model = spatial(depth, mask_stride=mask_stride)
    image = torch.rand(4, 3, *size)
    for point in operating_points(model):
        maps = {}
        for execution in ('masked', 'sparse'):
            for block in model.masked_blocks().values():
                block.execution = execution
            with at_operating_point(model, point):
                maps[execution] = outputs_of(model, image)
        assert_maps_shrink_to_one(maps['sparse'])
        for sparse, masked in zip(maps['sparse'], maps['masked']):
            scale = max(1, masked.abs().max().item())
            torch.testing.assert_close(sparse, masked, rtol=0, atol=1e-4 * scale)
