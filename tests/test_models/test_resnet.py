from importlib import import_module

import pytest
import torch
from helpers.reference import outputs_of, randomize_norms
from mmpretrain.models.backbones import ResNet_CIFAR
from torch import nn

from mmdyn.models.resnet import ResNet

V1C = dict(deep_stem=True)
V1D = dict(deep_stem=True, avg_down=True)
PACKAGES = [
    'mmpretrain',
    pytest.param('mmseg', marks=pytest.mark.needs_mmcv_ops),
    pytest.param('mmdet', marks=pytest.mark.needs_mmcv_ops),
]


def stock_resnet(package, **arguments):
    """Imported here: mmseg and mmdet need mmcv's operators, mmpretrain does not."""
    return import_module(f'{package}.models.backbones.resnet').ResNet(**arguments)


def assert_same_outputs(stock, ours, image):
    """Load the stock weights strictly and compare every stage's output."""
    randomize_norms(stock)
    ours.load_state_dict(stock.state_dict(), strict=True)
    expected, got = outputs_of(stock, image), outputs_of(ours, image)
    assert len(expected) == len(got)
    for a, b in zip(expected, got):
        torch.testing.assert_close(b, a, rtol=0, atol=1e-5 * a.abs().max().item())


@pytest.mark.parametrize('package', PACKAGES)
@pytest.mark.parametrize('version', [{}, V1C, V1D], ids=['V1b', 'V1c', 'V1d'])
@pytest.mark.parametrize('depth', [18, 50])
def test_stock_weights_give_stock_outputs(package, version, depth):
    arguments = dict(depth=depth, out_indices=(0, 1, 2, 3), **version)
    stock = stock_resnet(package, **arguments)
    assert_same_outputs(stock, ResNet(**arguments), torch.rand(2, 3, 64, 64))


@pytest.mark.needs_mmcv_ops
@pytest.mark.parametrize(
    'arguments',
    [
        dict(strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4), contract_dilation=True),
        dict(strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4)),
        dict(style='caffe'),
        dict(in_channels=5, stem_channels=32, base_channels=32),
        dict(norm_cfg=dict(type='GN', num_groups=8)),
    ],
)
def test_options_mean_what_they_mean_in_mmseg(arguments):
    arguments = dict(depth=50, out_indices=(0, 1, 2, 3), **arguments)
    image = torch.rand(1, arguments.get('in_channels', 3), 65, 50)
    assert_same_outputs(stock_resnet('mmseg', **arguments), ResNet(**arguments), image)


@pytest.mark.needs_mmcv_ops
def test_resnet_c4_of_detectors():
    arguments = dict(
        depth=50, num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(2,)
    )
    assert_same_outputs(
        stock_resnet('mmdet', **arguments), ResNet(**arguments), torch.rand(1, 3, 64, 64)
    )


def test_cifar_stem_is_that_of_mmpretrain():
    arguments = dict(depth=34, out_indices=(0, 3))
    stock = ResNet_CIFAR(**arguments)
    assert_same_outputs(
        stock, ResNet(stem='cifar', **arguments), torch.rand(2, 3, 32, 32)
    )


# Params by hand, with the last layer for 10 classes: 464,154 is the 0.46 M of He et al.,
# Table 6, for ResNet-32, plus the 2,752 of our 1×1 shortcuts and their norms.
@pytest.mark.parametrize('depth', [8, 14, 20, 26, 32, 56, 110])
def test_cifar_depths_count_their_layers(depth):
    model = ResNet(depth)
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    threes = [m for m in convs if m.kernel_size == (3, 3)]
    assert len(threes) + 1 == depth  # the classifier is the last layer
    assert [tuple(o.shape) for o in outputs_of(model, torch.rand(1, 3, 32, 32))] == [
        (1, 64, 8, 8)
    ]
    n = (depth - 2) // 6
    weights = 27 * 16 + 2 * 16
    for channels, before in ((16, 16), (32, 16), (64, 32)):
        weights += 9 * channels * (before + (2 * n - 1) * channels) + 4 * n * channels
        if before != channels:
            weights += before * channels + 2 * channels
    assert sum(p.numel() for p in model.parameters()) == weights
    if depth == 32:
        assert weights + 650 == 464_154 + 2_752


def test_50_is_the_bottleneck_network_for_either_stem():
    model = ResNet(50, stem='cifar')
    assert model.stage_blocks == (3, 4, 6, 3)
    assert outputs_of(model, torch.rand(1, 3, 32, 32))[0].shape == (1, 2048, 4, 4)


def test_frozen_stages_and_norm_eval():
    model = ResNet(18, frozen_stages=2, norm_eval=True)
    model.train()
    trained = {n.split('.')[0] for n, p in model.named_parameters() if p.requires_grad}
    assert trained == {'layer3', 'layer4'}
    assert not any(m.training for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    before = model.layer1[0].bn1.running_mean.clone()
    model(torch.rand(2, 3, 32, 32))[0].sum().backward()
    assert torch.equal(model.layer1[0].bn1.running_mean, before)
    assert model.conv1.weight.grad is None
    assert model.layer3[0].conv1.weight.grad.abs().sum() > 0


def test_checkpointing_changes_no_gradient():
    plain, saving = ResNet(14), ResNet(14, with_cp=True)
    saving.load_state_dict(plain.state_dict())
    image = torch.rand(2, 3, 32, 32)
    grads = []
    for model in (plain, saving):
        model.train()
        model(image)[0].square().sum().backward()
        grads.append([p.grad for p in model.parameters()])
    for a, b in zip(*grads):
        torch.testing.assert_close(a, b)


def test_init_makes_blocks_the_identity_unless_pretrained(tmp_path):
    model = ResNet(18)
    model.init_weights()
    assert all(block.bn2.weight.abs().max() == 0 for block in model.layer2)
    assert model.layer2[0].bn1.weight.min() == 1
    nn.init.constant_(model.layer2[0].bn2.weight, 0.5)
    torch.save(model.state_dict(), tmp_path / 'r18.pth')
    loaded = ResNet(18, pretrained=str(tmp_path / 'r18.pth'))
    loaded.init_weights()
    assert loaded.layer2[0].bn2.weight.unique().tolist() == [0.5]


def test_a_second_initialisation_changes_nothing():
    model = ResNet(18)
    model.init_weights()
    nn.init.constant_(model.layer2[0].bn2.weight, 0.5)
    model.init_weights()  # a runner's, of a model that is trained already
    assert model.layer2[0].bn2.weight.unique().tolist() == [0.5]


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(depth=19), r'no depth 19; valid ones: \[8, 14, 18, 20'),
        (dict(depth=18, num_stages=5), 'num_stages must lie in 1…4, got 5'),
        (dict(depth=20, num_stages=4), 'num_stages must lie in 1…3, got 4'),
        (dict(depth=18, out_indices=(0, 4)), r'out_indices must lie in 0…3.*\(0, 4\)'),
        (dict(depth=18, num_stages=2, strides=(1, 2, 2, 2)), 'each of 2 stages'),
        (dict(depth=18, dilations=(1, 2)), 'dilations needs one value'),
        (dict(depth=18, style='tf'), "style must be one of .*'tf'"),
        (dict(depth=18, stem='mnist'), "stem must be one of .*'mnist'"),
        (dict(depth=18, frozen_stages=5), 'frozen_stages must lie in -1…4, got 5'),
        (dict(depth=20, deep_stem=True), 'deep_stem'),
        (dict(depth=18, in_channels=0), 'in_channels must be a whole number above 0'),
        (dict(depth=18, stem_channels=-4), 'stem_channels must .* above 0, got -4'),
        (dict(depth=18, strides=(1, 2, 0, 2)), r'strides must .* got \(1, 2, 0, 2\)'),
        (dict(depth=18, out_indices=3), 'out_indices must be a sequence, got 3'),
        (dict(depth=18, pretrained='a', init_cfg=dict(type='Kaiming')), 'not both'),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(ValueError, match=message):
        ResNet(**arguments)


def test_typos_are_not_swallowed():
    with pytest.raises(TypeError, match='dept'):
        ResNet(18, dept=3)
