import pytest
import torch
from helpers.reference import outputs_of, randomize_norms
from torch import nn

from mmdyn import count_macs
from mmdyn.models.zoo.msdnet import MSDNet

CIFAR = dict(stem='cifar')


def classifier_parameters(channels, hidden, classes):
    """Those of the paper's classifiers: two 3×3 convolutions with BN, a linear layer."""
    convs = 9 * hidden * (channels + hidden) + 4 * hidden
    return convs + (hidden + 1) * classes


def test_parameters_of_the_authors_network_for_cifar():
    # github.com/kalviny/MSDNet-PyTorch, check_msdnet/log.txt: channels that the ten
    # classifiers read, and '# of params: 4839544' for 10 classes, with 128 channels in
    # the classifiers.
    model = MSDNet(10, base=4, step=2, **CIFAR)
    assert model.stage_channels == [160, 208, 256, 164, 212, 260, 308, 188, 236, 284]
    params = sum(p.numel() for p in model.parameters())
    params += sum(classifier_parameters(c, 128, 10) for c in model.stage_channels)
    assert params == 4839544


@torch.no_grad()
def all_scales_of_all_layers(model, x):
    """Coarsest maps after each layer, with every layer computed at every scale."""
    maps = {}
    for scale, conv in enumerate(model.stem):
        x = maps[scale] = conv(x)
    coarsest = []
    for layer in model.layers:
        new = {}
        for name, part in layer.items():
            scale = int(name)
            parts = [maps[scale], part.from_same(maps[scale])]
            if part.from_finer is not None:
                parts.insert(1, part.from_finer(maps[scale - 1]))
            new[scale] = part.transition(torch.cat(parts, 1))
        maps = new
        coarsest.append(maps[model.num_scales - 1])
    return coarsest


@pytest.mark.parametrize(
    'arguments',
    [
        dict(num_blocks=3, base=3, step=2, **CIFAR),
        dict(num_blocks=4, base=1, step=1, step_mode='lin_grow', **CIFAR),
        dict(num_blocks=2, base=1, step=1),
        dict(num_blocks=3, base=2, step=3, growth_rate=2, stem_channels=3),
        dict(num_blocks=2, growth_factors=(2,), base=1, step=1, **CIFAR),
    ],
)
@pytest.mark.parametrize('size', [32, 37])
def test_lazy_evaluation_gives_what_eager_evaluation_gives(arguments, size):
    blocks = arguments['num_blocks']
    model = MSDNet(**arguments, out_indices=range(blocks)).eval()
    randomize_norms(model)
    image = torch.rand(2, 3, size, size)
    expected = all_scales_of_all_layers(model, image)
    for got, end in zip(outputs_of(model, image), model.stage_ends):
        assert torch.equal(got, expected[end - 1])


@pytest.mark.parametrize(
    ('mode', 'ends'), [('even', [3, 5, 7, 9]), ('lin_grow', [3, 8, 15, 24])]
)
def test_layers_of_stages(mode, ends):
    model = MSDNet(4, base=3, step=2, step_mode=mode, **CIFAR)
    assert model.stage_ends == ends
    assert len(model.layers) == ends[-1]


def tiny(**changes):
    """Two scales, two groups of two layers."""
    arguments = dict(base=2, step=2, growth_rate=4, stem_channels=3, **CIFAR)
    return MSDNet(2, growth_factors=(1, 2), **{**arguments, **changes})


def macs_of_bottleneck(channels, out, width, before, after):
    inner = min(channels, width * out)
    return channels * inner * before**2 + 9 * inner * out * after**2


def test_macs_of_a_tiny_network_by_hand():
    """What each exit needs, layer by layer; maps of 16×16 and 8×8."""
    stem = 27 * 3 * 16**2 + 9 * 3 * 6 * 8**2
    layer1 = macs_of_bottleneck(6, 4, 2, 8, 8) + macs_of_bottleneck(3, 4, 1, 16, 8)
    finer1 = macs_of_bottleneck(3, 4, 1, 16, 16)
    layer2 = macs_of_bottleneck(14, 4, 2, 8, 8) + macs_of_bottleneck(7, 4, 1, 16, 8)
    # The first exit is there: of the finer scale it needs no second layer.
    first = stem + layer1 + finer1 + layer2
    finer2 = macs_of_bottleneck(7, 4, 1, 16, 16)
    layer3 = macs_of_bottleneck(22, 4, 2, 8, 8) + macs_of_bottleneck(11, 4, 1, 16, 8)
    transition = 30 * 14 * 8**2  # half of 30 is 15: 7 for each of the growth factor's 2
    layer4 = macs_of_bottleneck(14, 8, 2, 8, 8)
    second = first + finer2 + layer3 + transition + layer4
    shape = (3, 16, 16)
    assert count_macs(tiny(out_indices=(0,)), shape) == first
    assert count_macs(tiny(), shape) == second
    assert tiny().stage_channels == [22, 22]


def test_scales_of_each_layer():
    scales = [list(layer) for layer in MSDNet(num_blocks=2, base=4, step=4).layers]
    four = ['0', '1', '2', '3']
    assert scales == [four, four, *[four[1:]] * 2, *[four[2:]] * 2, *[four[3:]] * 2]


@pytest.mark.parametrize(
    ('arguments', 'sizes', 'channels'),
    [
        # 64 from the stem, 16·4 from each layer; transitions behind layers 6, 11, 16.
        (dict(), [7] * 5, [384, 384, 352, 304, 560]),
        # 64 and 24 a layer; behind layers 5 and 9, 184 and 188 become 4 · 23.
        (dict(step=2, **CIFAR), [56] * 5, [160, 116, 164, 116, 164]),
    ],
)
def test_shapes_of_stages(arguments, sizes, channels):
    model = MSDNet(**arguments, out_indices=range(5))
    outs = outputs_of(model, torch.rand(1, 3, 224, 224))
    assert [x.shape[2] for x in outs] == sizes
    assert [x.shape[1] for x in outs] == channels


def test_every_parameter_serves_some_exit():
    for layers in range(1, 8):
        model = MSDNet(1, base=layers, **CIFAR).train()
        model(torch.rand(2, 3, 16, 16))[0].sum().backward()
        assert all(p.grad is not None for p in model.parameters())


def test_norm_eval():
    model = tiny(norm_eval=True).train()
    assert not any(m.training for m in model.modules() if isinstance(m, nn.BatchNorm2d))


def test_frozen_stages():
    model = tiny(frozen_stages=1).train()
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    starts = ('stem', 'layers.0', 'layers.1')
    assert frozen == {n for n, _ in model.named_parameters() if n.startswith(starts)}


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(stem='mnist'), r"stem must be one of \('imagenet', 'cifar'\), got 'mnist'"),
        (dict(step_mode='odd'), r"step_mode must be one of .*'lin_grow'.*got 'odd'"),
        (dict(num_blocks=0), 'num_blocks must be a whole number above 0, got 0'),
        (dict(base=0), 'base must be'),
        (dict(growth_rate=5), 'growth_rate must be even.*got 5'),
        (dict(growth_factors=(1, 2), bottleneck_factors=(1,)), r'\(1, 2\) and \(1,\)'),
        (dict(growth_factors=()), r'one value for each scale, got \(\)'),
        (dict(growth_factors=(1, 0)), r'growth_factors.*got \(1, 0\)'),
        (dict(reduction=0), r'reduction must lie in \(0, 1\], got 0'),
        (dict(out_indices=(5,)), r'out_indices must lie in 0…4, got \(5,\)'),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(ValueError, match=message):
        MSDNet(**arguments)
