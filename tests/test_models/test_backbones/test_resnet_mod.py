import pytest
import torch
from reference import outputs_of, randomize_norms
from torch import nn

from mmdyn import count_macs, operating_points
from mmdyn.models.backbones import ResNet, ResNetMoD

# Params (millions) and GMACs with the classifier, 224×224, 1000 classes: Tables 5 to 9 of
# the paper; None where it gives none.
IMAGENET = {
    18: (5.46, 0.89),
    26: (11.40, 1.36),
    34: (12.93, 2.06),
    42: (17.72, 2.29),
    50: (18.11, 2.60),
    75: (23.10, 3.48),
    86: (25.60, 3.92),
    101: (29.21, None),
    152: (37.46, None),
}
# CIFAR-10: params (millions) and MMACs of Table 11.
CIFAR = {18: (4.95, 255), 34: (12.42, 633), 50: (16.07, 808)}


def millions_and_macs(arguments, classes, size):
    """Both depend on shapes alone, so nothing needs to be computed."""
    with torch.device('meta'):
        backbone = ResNetMoD(**arguments)
    classifier = nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(backbone.feat_dim, classes)
    )
    params = sum(p.numel() for m in (backbone, classifier) for p in m.parameters())
    macs = count_macs(backbone, (3, size, size)) + backbone.feat_dim * classes
    return params / 1e6, macs


@pytest.mark.parametrize('depth', sorted(IMAGENET))
def test_params_and_macs_of_the_paper(depth):
    params, gmacs = IMAGENET[depth]
    got_params, got_macs = millions_and_macs(dict(depth=depth), 1000, 224)
    assert round(got_params, 2) == params
    if gmacs is not None:
        assert got_macs / 1e9 == pytest.approx(gmacs, rel=0.015)


@pytest.mark.parametrize('depth', sorted(CIFAR))
def test_params_and_macs_on_cifar(depth):
    params, mmacs = CIFAR[depth]
    got_params, got_macs = millions_and_macs(dict(depth=depth, stem='cifar'), 10, 32)
    assert round(got_params, 2) == params
    assert got_macs / 1e6 == pytest.approx(mmacs, rel=0.015)


@pytest.mark.parametrize('depth', [18, 50])
@pytest.mark.parametrize('divisor', [8, 64])
@pytest.mark.parametrize('fusion', ['first', 'last', 'original'])
def test_block_against_a_loop_over_samples_and_channels(depth, divisor, fusion):
    model = ResNetMoD(depth, divisor=divisor, fusion=fusion).eval()
    block = randomize_norms(model).layer2[1]
    x = torch.rand(3, block.in_channels, 7, 5)
    hidden, out = block.selector.score[0].weight, block.selector.score[2].weight
    k = max(1, block.in_channels // divisor)
    with torch.no_grad():
        got = block(x)
        for n in range(3):
            means = x[n].mean(dim=(1, 2))
            scores = torch.sigmoid(out @ torch.relu(hidden @ means))
            chosen = sorted(range(len(scores)), key=lambda c: -scores[c].item())[:k]
            narrow = torch.stack([x[n, c] for c in chosen])[None]
            processed = block.narrow_branch(narrow)[0]
            expected = x[n].clone()
            for i, channel in enumerate(chosen):
                place = dict(first=i, last=len(scores) - k + i, original=channel)[fusion]
                expected[place] += scores[channel] * processed[i]
            torch.testing.assert_close(got[n], expected.relu())


def test_every_second_block_routes_channels():
    model = ResNetMoD(50)
    kinds = [
        type(block).__name__
        for name in model.res_layers
        for block in getattr(model, name)
    ]
    pair = ['Bottleneck', 'MoDBottleneck']
    assert kinds == (pair * 2)[:3] + pair * 2 + pair * 3 + (pair * 2)[:3]


@pytest.mark.parametrize('fusion', ['first', 'last', 'original'])
@pytest.mark.parametrize('with_cp', [False, True])
def test_selector_learns(fusion, with_cp):
    model = ResNetMoD(
        18, stem='cifar', base_channels=16, divisor=4, fusion=fusion, with_cp=with_cp
    )
    model.train()
    model(torch.rand(4, 3, 16, 16))[0].square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    assert model.layer1[1].selector.score[2].weight.grad.abs().sum() > 0


def test_stock_weights_fill_all_but_the_mod_blocks():
    stock, mod = randomize_norms(ResNet(34)), ResNetMoD(34)
    shapes = {key: value.shape for key, value in mod.state_dict().items()}
    fitting = {
        key: value
        for key, value in stock.state_dict().items()
        if shapes.get(key) == value.shape
    }
    keys = mod.load_state_dict(fitting, strict=False)
    assert all(int(key.split('.')[1]) % 2 == 1 for key in keys.missing_keys)
    block = mod.layer3[0].eval(), stock.layer3[0].eval()
    x = torch.rand(1, 128, 8, 8)
    torch.testing.assert_close(block[0](x), block[1](x))


def test_trunk_options_reach_the_mod_blocks():
    model = ResNetMoD(
        50,
        strides=(1, 2, 1, 1),
        dilations=(1, 1, 2, 4),
        norm_cfg=dict(type='GN', num_groups=1),
        with_cp=True,
        out_indices=(0, 1, 2, 3),
    )
    assert model.layer4[1].conv2.dilation == (4, 4)
    assert isinstance(model.layer1[1].norm(3), nn.GroupNorm)
    outs = outputs_of(model, torch.rand(1, 3, 64, 64))
    assert [o.shape[2] for o in outs] == [16, 8, 8, 8]


def test_one_operating_point():
    assert [p.name for p in operating_points(ResNetMoD(18))] == ['full']


@pytest.mark.parametrize('divisor', [0, -1, 65])
def test_divisor_limits(divisor):
    with pytest.raises(ValueError, match=f'divisor must lie in 1…64.*got {divisor}'):
        ResNetMoD(18, divisor=divisor)


def test_reduction_sets_the_width_of_the_selector():
    assert ResNetMoD(18, reduction=4).layer1[1].selector.score[0].out_features == 16


@pytest.mark.parametrize(
    ('setting', 'message'),
    [
        (dict(fusion='middle'), "one of .'first', 'last', 'original'., got 'middle'"),
        (dict(reduction=0), 'reduction must be 1 or more, got 0'),
    ],
)
def test_refused_settings(setting, message):
    with pytest.raises(ValueError, match=message):
        ResNetMoD(18, **setting)


def test_unknown_depth():
    message = (
        r'ResNetMoD has no depth 20; valid ones: \[18, 26, 34, 42, 50, 75, 86, 101, 152'
    )
    with pytest.raises(ValueError, match=message):
        ResNetMoD(20)
