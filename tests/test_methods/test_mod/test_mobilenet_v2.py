import pytest
import torch
from helpers.mod_reference import in_bf16_and_by_loop, mod_by_loop
from helpers.reference import (
    assert_same_in_onnxruntime,
    macs_by_formula,
    outputs_of,
    randomize_norms,
)
from mmpretrain.models.backbones import MobileNetV2
from torch import nn

from mmdyn import count_macs, operating_points
from mmdyn.methods.mod.mobilenet_v2 import MobileNetV2MoD, MoDInvertedResidual

FUSIONS = ['first', 'last', 'original']
# Channels of the layers, Table 6 of the paper.
CHANNELS = {
    'base': (16, 24, 32, 64, 96, 160, 320, 1280),
    'large': (16, 32, 64, 96, 128, 160, 320, 1280),
}
SIZES = (16, 8, 4, 2, 2, 1, 1, 1)


@pytest.mark.parametrize('variant', sorted(CHANNELS))
def test_layers_of_table_6(variant):
    model = MobileNetV2MoD(variant, out_indices=range(8))
    outs = outputs_of(model, torch.rand(1, 3, 32, 32))
    expected = [(c, s, s) for c, s in zip(CHANNELS[variant], SIZES)]
    assert [tuple(o.shape[1:]) for o in outs] == expected


@pytest.mark.parametrize('variant', sorted(CHANNELS))
def test_every_second_block_routes_channels(variant):
    model = MobileNetV2MoD(variant)
    kinds = [
        ''.join(
            'M' if isinstance(block, MoDInvertedResidual) else 'I'
            for block in getattr(model, name)
        )
        for name in model.layers[:-1]
    ]
    assert kinds == ['I', 'IM', 'IMI', 'IMIM', 'IMI', 'IMI', 'I']


def inverted_residual_macs(channels, out_channels, size, out_size):
    """Without the skip connection, for an expansion of 6."""
    width = 6 * channels
    depthwise_and_linear = out_size**2 * (9 * width + width * out_channels)
    return size**2 * channels * width + depthwise_and_linear


@pytest.mark.parametrize('variant', sorted(CHANNELS))
@pytest.mark.parametrize('divisor', [None, 4])
def test_macs_by_hand(variant, divisor):
    """The supplement prints neither parameters nor MACs of these two."""
    channels = CHANNELS[variant]
    sizes = (112, 56, 28, 14, 14, 7, 7)
    blocks = (1, 2, 3, 4, 3, 3, 1)
    macs = 27 * 32 * 112**2 + 112**2 * (9 * 32 + 32 * 16)  # conv1, layer1
    for i in range(1, 7):
        c, s = channels[i], sizes[i]
        macs += inverted_residual_macs(channels[i - 1], c, sizes[i - 1], s)
        k = max(1, c // (divisor or channels[1]))
        for index in range(1, blocks[i]):
            if index % 2:
                macs += inverted_residual_macs(k, k, s, s) + 2 * c * (c // 16)
            else:
                macs += inverted_residual_macs(c, c, s, s)
    macs += 7**2 * 320 * 1280
    assert count_macs(MobileNetV2MoD(variant, divisor=divisor), (3, 224, 224)) == macs


def test_divisor_1_costs_what_the_stock_network_and_its_selectors_do():
    model, stock = MobileNetV2MoD(divisor=1), MobileNetV2()
    image = torch.rand(1, 3, 64, 64)
    with macs_by_formula(model) as ours:
        outputs_of(model, image)
    with macs_by_formula(stock) as theirs:
        outputs_of(stock, image)
    selectors = sum(
        p.numel() for name, p in model.named_parameters() if '.selector.' in name
    )
    assert ours.macs == theirs.macs + selectors


@pytest.mark.parametrize('divisor', [4, None])
@pytest.mark.parametrize('fusion', FUSIONS)
@pytest.mark.parametrize('gradients', [False, True])
def test_block_against_a_loop_over_samples_and_channels(divisor, fusion, gradients):
    model = MobileNetV2MoD('large', divisor=divisor, fusion=fusion).eval()
    block = randomize_norms(model).layer3[1]
    x = torch.randn(3, 64, 7, 5)  # linear bottlenecks: negative values stay
    expected = mod_by_loop(block.mod, x, block.conv)
    with torch.set_grad_enabled(gradients):
        torch.testing.assert_close(block(x.clone()), expected)


def test_stock_weights_give_stock_features_before_the_first_mod_block():
    stock, model = MobileNetV2(), MobileNetV2MoD()
    randomize_norms(stock)
    stock.eval(), model.eval()
    own = model.state_dict()
    fitting = {k: v for k, v in stock.state_dict().items() if own[k].shape == v.shape}
    model.load_state_dict(fitting, strict=False)
    x = torch.rand(2, 3, 32, 32)
    for name in ('conv1', 'layer1', 'layer2.0'):
        ours, theirs = model.get_submodule(name)(x), stock.get_submodule(name)(x)
        torch.testing.assert_close(ours, theirs)
        x = theirs


@pytest.mark.parametrize('widen_factor', [0.35, 0.5, 1.4])
def test_widths_are_those_of_the_stock_network(widen_factor):
    arguments = dict(widen_factor=widen_factor, out_indices=range(8))
    image = torch.rand(1, 3, 32, 32)
    ours = outputs_of(MobileNetV2MoD(**arguments), image)
    theirs = outputs_of(MobileNetV2(**arguments), image)
    assert [o.shape for o in ours] == [o.shape for o in theirs]


@pytest.mark.parametrize('fusion', FUSIONS)
@pytest.mark.parametrize('with_cp', [False, True])
def test_selector_learns(fusion, with_cp):
    torch.manual_seed(0)
    model = MobileNetV2MoD(fusion=fusion, divisor=4, with_cp=with_cp).train()
    model(torch.rand(4, 3, 64, 64))[0].square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    block = model.layer4[1].mod
    assert block.selector.score[2].weight.grad.abs().sum() > 0


def test_frozen_stages_and_norm_eval():
    model = MobileNetV2MoD(frozen_stages=2, norm_eval=True).train()
    trained = {n.split('.')[0] for n, p in model.named_parameters() if p.requires_grad}
    assert trained == {'layer3', 'layer4', 'layer5', 'layer6', 'layer7', 'conv2'}
    assert not any(m.training for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    model = MobileNetV2MoD(frozen_stages=0)
    frozen = {n.split('.')[0] for n, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {'conv1'}


def test_channels_last():
    model = randomize_norms(MobileNetV2MoD())
    image = torch.rand(2, 3, 64, 64)
    (expected,) = outputs_of(model, image)
    model.to(memory_format=torch.channels_last)
    image = image.contiguous(memory_format=torch.channels_last)
    (got,) = outputs_of(model, image)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('gradients', [False, True])
def test_bf16(gradients):
    model = MobileNetV2MoD('large', divisor=16, reduction=1)
    block = randomize_norms(model).layer3[1].eval()
    got, expected = in_bf16_and_by_loop(block, block.conv, gradients)
    torch.testing.assert_close(got, expected, rtol=3e-2, atol=3e-2)


def test_onnx(tmp_path):
    class Layers(nn.Sequential):
        def forward(self, x):
            return (super().forward(x),)

    model = randomize_norms(MobileNetV2MoD())
    assert_same_in_onnxruntime(model, torch.rand(2, 3, 64, 64), tmp_path, dynamo=False)
    layers = Layers(model.layer3, model.layer4)  # with MoD blocks of one and two channels
    assert_same_in_onnxruntime(layers, torch.rand(2, 24, 16, 16), tmp_path)


def test_one_operating_point():
    assert [p.name for p in operating_points(MobileNetV2MoD())] == ['dense']


@pytest.mark.parametrize(
    ('setting', 'message'),
    [
        (dict(variant='huge'), r"variant must be one of \('base', 'large'\), got 'huge'"),
        (dict(divisor=25), 'divisor must lie in 1…24, .* first MoD block, got 25'),
        (dict(variant='large', divisor=33), 'divisor must lie in 1…32, .* got 33'),
        (dict(divisor=0), 'divisor must lie in 1…24, .* got 0'),
        (dict(fusion='all'), "fusion must be one of .*, got 'all'"),
        (dict(reduction=0), 'reduction must be a whole number above 0, got 0'),
        (dict(widen_factor=0), 'widen_factor must be above 0, got 0'),
        (dict(out_indices=(8,)), r'out_indices must lie in 0…7, got \(8,\)'),
        (dict(frozen_stages=8), 'frozen_stages must lie in -1…7, got 8'),
    ],
)
def test_refusals(setting, message):
    with pytest.raises(ValueError, match=message):
        MobileNetV2MoD(**setting)
