import pytest
import torch
from helpers.reference import macs_by_formula
from mmengine.analysis import FlopAnalyzer
from torch import nn

from mmdyn import CostMeter, count_macs
from mmdyn.models.resnet import ResNet


@pytest.mark.parametrize('depth', [18, 50])
def test_agrees_with_mmengine_on_dense_resnets(depth):
    model, image = ResNet(depth).eval(), torch.rand(1, 3, 224, 224)
    analyzer = FlopAnalyzer(model, image).unsupported_ops_warnings(False)
    # get_model_complexity_info adds two operations for each element of a batch norm,
    # 0.54 % of ResNet-50; MACs are those of convolutions and products.
    operators = analyzer.by_operator()
    norms = operators.pop('batch_norm')
    assert norms < 0.006 * analyzer.total()
    assert count_macs(model, image.shape[1:]) == sum(operators.values())


def test_agrees_with_the_formula_exactly():
    model = nn.Sequential(
        nn.Conv2d(4, 6, 3, stride=2, groups=2), nn.Flatten(), nn.Linear(6 * 3 * 4, 5)
    )
    with macs_by_formula(model) as counter:
        model(torch.rand(1, 4, 8, 9))
    assert count_macs(model, (4, 8, 9)) == counter.macs == 6 * 12 * 2 * 9 + 72 * 5


def test_meter_adds_up_over_blocks_and_ignores_what_is_outside():
    layer, meter = nn.Linear(7, 3), CostMeter()
    for n in (2, 5):
        with meter:
            layer(torch.rand(n, 7))
        meter.images += n
        layer(torch.rand(100, 7))
    assert (meter.macs, meter.images, meter.macs_per_image) == (147, 7, 21)
    meter.reduce()  # one rank: nothing changes
    assert (meter.macs, meter.images) == (147, 7)


def test_meter_counts_up_to_an_exception_and_can_go_on():
    layer, meter = nn.Linear(7, 3), CostMeter()
    with pytest.raises(RuntimeError, match='stop'), meter:
        layer(torch.rand(1, 7))
        raise RuntimeError('stop')
    with meter:
        layer(torch.rand(1, 7))
    assert meter.macs == 42


def test_counts_products_that_are_no_modules():
    meter = CostMeter()
    q = torch.rand(2, 4, 6, 8)  # 2 samples, 4 heads, 6 tokens, 8 channels
    with meter:
        torch.rand(3, 4) @ torch.rand(4, 5)
        nn.functional.scaled_dot_product_attention(q, q, q)
    assert meter.macs == 60 + 2 * (2 * 4 * 6 * 6 * 8)


@pytest.mark.skipif(not hasattr(torch.backends, 'mha'), reason='torch 2.1 cannot')
def test_counts_fused_attention_layers():
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True).eval()
    meter, tokens = CostMeter(), torch.rand(2, 10, 16)
    with torch.no_grad(), meter:
        layer(tokens)
    # Projections 4 · 16², feed-forward 2 · 16 · 32, and attention 2 · 10 · 16 a token.
    assert meter.macs == 2 * 10 * (4 * 256 + 1024 + 320)
    assert torch.backends.mha.get_fastpath_enabled()


def test_no_images_is_an_error():
    with pytest.raises(ValueError, match='no image'):
        _ = CostMeter().macs_per_image


def test_count_macs_leaves_the_model_as_it_was():
    model = ResNet(14, frozen_stages=1)
    model.train()
    modes = [m.training for m in model.modules()]
    statistics = model.layer3[0].bn1.running_mean.clone()
    count_macs(model, (3, 16, 16))
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(model.layer3[0].bn1.running_mean, statistics)
