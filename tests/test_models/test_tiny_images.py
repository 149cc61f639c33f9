"""Images smaller than the stride of 32: the last maps are one position."""

import pytest
import torch
from helpers.cnmm_reference import run_recursion
from helpers.reference import outputs_of, randomize_norms
from mmpretrain.models.backbones import ResNet as StockResNet
from torch import nn

from mmdyn import at_operating_point, operating_points
from mmdyn.methods.cnmm.backbone import CNMM
from mmdyn.methods.mod.resnet import ResNetMoD
from mmdyn.methods.spatial.resnet import SpatialResNet

SIZES = [(8, 8), (5, 7)]
STAGES = dict(num_stages=4, out_indices=(0, 1, 2, 3))
SMALL = dict(stem_channels=16, base_channels=16, **STAGES)

pytestmark = pytest.mark.parametrize('size', SIZES)


def assert_maps_shrink_to_one(maps):
    assert [map.shape[2:] for map in maps] == [(2, 2), (1, 1), (1, 1), (1, 1)]
    assert all(map.isfinite().all() for map in maps)


def spatial(depth, **arguments):
    model = SpatialResNet(depth, **SMALL, **arguments)
    for name, parameter in model.named_parameters():
        if 'mask_unit' in name:
            nn.init.normal_(parameter, std=0.3)
    return randomize_norms(model).eval()


@pytest.mark.parametrize('avg_down', [False, True])
@pytest.mark.parametrize('depth', [18, 50])
def test_dense_spatial_network_is_the_stock_one(depth, avg_down, size):
    stock = randomize_norms(StockResNet(depth, avg_down=avg_down, **SMALL))
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


@pytest.mark.parametrize('depth', [18, 50])
def test_mixture_of_depths(depth, size):
    model = ResNetMoD(depth, divisor=4, fusion='original', **SMALL)
    randomize_norms(model).eval()
    image = torch.rand(2, 3, *size)
    maps = outputs_of(model, image)
    assert_maps_shrink_to_one(maps)
    # With gradients nothing is changed in place; each image has channels of its own.
    alone = [model(image[i : i + 1]) for i in range(2)]
    for found, *expected in zip(maps, *alone):
        torch.testing.assert_close(found, torch.cat(expected))


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
