import pytest
import torch
from helpers.reference import outputs_of, randomize_norms
from torch import nn

from mmdyn import count_macs
from mmdyn.models.zoo.googlenet import GoogLeNetCIFAR, Inception

# Channels of the output and output of the 5×5 branch of each module: Szegedy et al.,
# Table 1.
TABLE = {
    'inception3a': (256, 32),
    'inception3b': (480, 96),
    'inception4a': (512, 48),
    'inception4b': (512, 64),
    'inception4c': (512, 64),
    'inception4d': (528, 64),
    'inception4e': (832, 128),
    'inception5a': (832, 128),
    'inception5b': (1024, 128),
}


def test_cost_in_lin_et_al():
    # Table III: 1.52 G, with a classifier of 100 classes.
    macs = count_macs(GoogLeNetCIFAR(), (3, 32, 32)) + 1024 * 100
    assert macs / 1e9 == pytest.approx(1.52, abs=0.005)


def test_channels_of_the_table():
    modules = {
        name.split('.')[-1]: (m.out_channels, m.branch5x5[-1].out_channels)
        for name, m in GoogLeNetCIFAR().named_modules()
        if isinstance(m, Inception)
    }
    assert modules == TABLE


def test_shapes_of_stages():
    model = GoogLeNetCIFAR(in_channels=1, out_indices=(0, 1, 2))
    outs = outputs_of(model, torch.rand(2, 1, 32, 32))
    assert [tuple(x.shape) for x in outs] == [
        (2, 480, 16, 16),
        (2, 832, 8, 8),
        (2, 1024, 8, 8),
    ]


def test_module_by_its_four_branches():
    module = Inception(6, 2, (3, 4), (2, 5), 3, dict(type='BN')).eval()
    randomize_norms(module)
    x = torch.randn(2, 6, 9, 7)

    def conv(x, layer):
        weight, norm = layer.conv.weight, layer.bn
        x = nn.functional.conv2d(x, weight, padding=weight.shape[-1] // 2)
        mean, var = norm.running_mean[:, None, None], norm.running_var[:, None, None]
        x = (x - mean) / (var + norm.eps).sqrt()
        return (x * norm.weight[:, None, None] + norm.bias[:, None, None]).clamp(min=0)

    with torch.no_grad():
        padded = nn.functional.pad(x, (1, 1, 1, 1), value=-float('inf'))
        pooled = padded.unfold(2, 3, 1).unfold(3, 3, 1).amax((4, 5))
        fives = x
        for layer in module.branch5x5:
            fives = conv(fives, layer)
        expected = torch.cat(
            [
                conv(x, module.branch1x1),
                conv(conv(x, module.branch3x3[0]), module.branch3x3[1]),
                fives,
                conv(pooled, module.branch_pool[1]),
            ],
            dim=1,
        )
        torch.testing.assert_close(module(x), expected, rtol=1e-4, atol=1e-5)
    assert expected.shape == (2, module.out_channels, 9, 7)


def test_frozen_stages_and_norm_eval():
    model = GoogLeNetCIFAR(frozen_stages=2, norm_eval=True).train()
    trained = {n.split('.')[1] for n, p in model.named_parameters() if p.requires_grad}
    assert trained == {'2'}
    assert not any(m.training for m in model.modules() if isinstance(m, nn.BatchNorm2d))


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(in_channels=0), 'in_channels must be a whole number above 0, got 0'),
        (dict(out_indices=(3,)), r'out_indices must lie in 0…2, got \(3,\)'),
        (dict(frozen_stages=4), 'frozen_stages must lie in -1…3, got 4'),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(ValueError, match=message):
        GoogLeNetCIFAR(**arguments)
