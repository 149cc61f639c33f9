import pytest
import torch
from helpers.mod_reference import in_bf16_and_by_loop, mod_by_loop
from helpers.reference import assert_same_in_onnxruntime, outputs_of, randomize_norms
from mmpretrain.models.backbones import VGG
from torch import nn

from mmdyn import operating_points
from mmdyn.methods.mod.vgg import MoDConv, VGGMoD

FUSIONS = ['first', 'last', 'original']


@pytest.mark.parametrize('divisor', [8, 64])
@pytest.mark.parametrize('fusion', FUSIONS)
@pytest.mark.parametrize('gradients', [False, True])
def test_convolution_against_a_loop_over_samples_and_channels(divisor, fusion, gradients):
    model = VGGMoD(16, divisor=divisor, fusion=fusion).eval()
    block = randomize_norms(model).features[4]
    x = torch.rand(3, 128, 7, 5)
    expected = mod_by_loop(block.mod, x, block.narrow)
    with torch.set_grad_enabled(gradients):
        torch.testing.assert_close(block(x.clone()), expected)


@pytest.mark.parametrize(
    ('depth', 'layers'), [(16, 'CM CM CMC CMC CMC'), (19, 'CM CM CMCM CMCM CMCM')]
)
def test_every_second_convolution_routes_channels(depth, layers):
    stages = VGGMoD(depth).stage_modules
    kinds = [
        ''.join('M' if isinstance(m, MoDConv) else 'C' for m in stage[:-1])
        for stage in stages
    ]
    assert ' '.join(kinds) == layers
    assert all(isinstance(stage[-1], nn.MaxPool2d) for stage in stages)


@pytest.mark.parametrize('norm_cfg', [None, dict(type='BN')])
def test_stock_weights_give_stock_features_where_layers_coincide(norm_cfg):
    stock = VGG(16, norm_cfg=norm_cfg)
    stock.eval()
    model = VGGMoD(16, norm_cfg=norm_cfg).eval()
    randomize_norms(stock)
    stock_state, own = stock.state_dict(), model.state_dict()
    shared = {key: value for key, value in stock_state.items() if key in own}
    keys = model.load_state_dict(shared, strict=False)
    assert all('.mod.' in k or '.narrow.' in k for k in keys.missing_keys)
    # Convolutions 0 of each stage, 2 of the last three.
    assert sum(key.endswith('conv.weight') for key in shared) == 8
    for index, channels in ((0, 3), (3, 64), (8, 256)):
        x = torch.rand(2, channels, 8, 8)
        torch.testing.assert_close(model.features[index](x), stock.features[index](x))


def test_arguments_of_a_stock_config():
    """mmpretrain's vgg16bn.py and its detectors' settings."""
    model = VGGMoD(16, norm_cfg=dict(type='BN'), num_classes=20)
    (scores,) = outputs_of(model, torch.rand(1, 3, 224, 224))
    assert scores.shape == (1, 20)
    arguments = dict(
        num_stages=4,
        dilations=(1, 1, 2, 2),
        out_indices=(2, 3),
        ceil_mode=True,
        with_last_pool=False,
    )
    image = torch.rand(1, 3, 35, 35)
    stock = outputs_of(VGG(16, norm_cfg=dict(type='BN'), **arguments), image)
    ours = outputs_of(VGGMoD(16, **arguments), image)
    assert [o.shape for o in ours] == [o.shape for o in stock]
    assert len(ours) == 2


def test_frozen_stages_and_norm_eval():
    model = VGGMoD(16, frozen_stages=2, norm_eval=True).train()
    trained = {
        int(n.split('.')[1]) for n, p in model.named_parameters() if p.requires_grad
    }
    assert min(trained) == 6
    assert not any(m.training for m in model.modules() if isinstance(m, nn.BatchNorm2d))


@pytest.mark.parametrize('fusion', FUSIONS)
def test_selector_learns(fusion):
    model = VGGMoD(16, fusion=fusion).train()
    model(torch.rand(4, 3, 32, 32))[0].square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    for module in model.modules():
        if isinstance(module, MoDConv):
            assert module.mod.selector.score[2].weight.grad.abs().sum() > 0


def test_channels_last():
    model = randomize_norms(VGGMoD(16))
    image = torch.rand(2, 3, 32, 32)
    (expected,) = outputs_of(model, image)
    model.to(memory_format=torch.channels_last)
    image = image.contiguous(memory_format=torch.channels_last)
    (got,) = outputs_of(model, image)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    assert got.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize('gradients', [False, True])
def test_bf16(gradients):
    model = VGGMoD(16, divisor=16, reduction=1)
    block = randomize_norms(model).features[1].eval()
    got, expected = in_bf16_and_by_loop(block, block.narrow, gradients)
    torch.testing.assert_close(got, expected, rtol=2e-2, atol=2e-2)


def test_onnx(tmp_path):
    model = randomize_norms(VGGMoD(16, num_stages=3))
    assert_same_in_onnxruntime(model, torch.rand(2, 3, 32, 32), tmp_path)


def test_initialisation_leaves_the_selectors_their_spread():
    """Normal(0.01) is for VGG's classifier; it would start all scores at one half."""
    model = VGGMoD(16, num_classes=10)
    model.init_weights()
    assert model.classifier[0].weight.std().item() == pytest.approx(0.01, rel=0.05)
    score = model.features[1].mod.selector.score
    bound = 64**-0.5  # torch's own: uniform in ± 1 / sqrt(inputs)
    assert score[0].weight.abs().max().item() == pytest.approx(bound, rel=0.05)


def test_one_operating_point():
    assert [p.name for p in operating_points(VGGMoD(16))] == ['dense']


@pytest.mark.parametrize(
    ('setting', 'message'),
    [
        (dict(depth=11), r'depth must be one of \(16, 19\), got 11'),
        (dict(divisor=65), 'divisor must lie in 1…64, .* got 65'),
        (dict(divisor=0), 'divisor must lie in 1…64, .* got 0'),
        (dict(fusion='all'), "fusion must be one of .*, got 'all'"),
        (dict(divisor='8'), "divisor must lie in 1…64, .* got '8'"),
        (dict(reduction=-2), 'reduction must be a whole number above 0, got -2'),
        (dict(num_classes=0), 'num_classes must be a whole number above 0, got 0'),
        (dict(num_classes=9, num_stages=4), 'num_classes=9 needs num_stages=5'),
        (dict(num_classes=9, with_last_pool=False), 'with_last_pool=True'),
        (dict(out_indices=4), 'out_indices must be a sequence, got 4'),
        (dict(num_stages=6), 'num_stages must lie in 1…5, got 6'),
        (dict(frozen_stages=6), 'frozen_stages must lie in -1…5, got 6'),
        (dict(out_indices=(5,)), r'out_indices must lie in 0…4, got \(5,\)'),
        (dict(dilations=(1, 2)), 'dilations needs one value for each of 5 stages'),
    ],
)
def test_refusals(setting, message):
    with pytest.raises(ValueError, match=message):
        VGGMoD(**{'depth': 16, **setting})
