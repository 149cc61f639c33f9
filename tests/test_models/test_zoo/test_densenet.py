import pytest
import torch
from helpers.reference import outputs_of, randomize_norms
from torch import nn

from mmdyn import count_macs
from mmdyn.models.zoo.densenet import DenseNetCIFAR


def macs_by_hand(layers, growth, stem, size=32):
    """MACs of the stem and, to the end of each stage, of what is behind it."""
    macs, channels, ends = 27 * stem * size**2, stem, []
    for stage in range(3):
        for _ in range(layers):
            macs += 9 * channels * growth * size**2
            channels += growth
        if stage < 2:
            macs += channels**2 * size**2
            size //= 2
        ends.append(macs)
    return ends


@pytest.mark.parametrize(
    ('depth', 'growth', 'stem'), [(40, 12, 16), (40, 12, 24), (22, 4, 5)]
)
def test_macs_of_stages_by_hand(depth, growth, stem):
    model = DenseNetCIFAR(depth, growth, stem)
    expected = macs_by_hand((depth - 4) // 3, growth, stem)
    assert count_macs(model, (3, 32, 32)) == expected[-1]


def test_cost_in_lin_et_al():
    # Table III: 282.96 M with a classifier of 100 classes, which needs a stem of 24.
    backbone = DenseNetCIFAR(stem_channels=24)
    macs = count_macs(backbone, (3, 32, 32)) + backbone.feat_dim * 100
    assert macs / 1e6 == pytest.approx(282.96, abs=0.005)


def test_parameters_in_huang_et_al():
    # Table 2: DenseNet with k = 12 and L = 40 has 1.0 M.
    backbone = DenseNetCIFAR()
    params = sum(p.numel() for p in backbone.parameters()) + backbone.feat_dim * 10
    assert round(params / 1e6, 1) == 1.0


def test_shapes_of_stages():
    outs = outputs_of(DenseNetCIFAR(out_indices=(0, 1, 2)), torch.rand(2, 3, 32, 32))
    assert [tuple(x.shape) for x in outs] == [
        (2, 160, 16, 16),
        (2, 304, 8, 8),
        (2, 448, 8, 8),
    ]


def test_forward_by_functions():
    """Each layer reads the stem's and all earlier layers' maps, newest last."""
    model = randomize_norms(DenseNetCIFAR(13, growth_rate=5, out_indices=(0, 1, 2)))
    image = torch.rand(2, 3, 16, 16)

    def norm_relu(x, norm):
        shape = (1, -1, 1, 1)
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        shift = norm.bias - norm.running_mean * scale
        return (x * scale.view(shape) + shift.view(shape)).clamp(min=0)

    with torch.no_grad():
        x = nn.functional.conv2d(image, model.stem.weight, padding=1)
        expected = []
        for index, stage in enumerate(model.stages):
            maps = [x]
            for layer in stage[:3]:
                new = norm_relu(torch.cat(maps, 1), layer.bn)
                maps.append(nn.functional.conv2d(new, layer.conv.weight, padding=1))
            x = torch.cat(maps, 1)
            if index < 2:
                x = norm_relu(x, stage[3].bn)
                x = nn.functional.conv2d(x, stage[3].conv.weight)
                x = x.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).mean((3, 5))
            else:
                x = norm_relu(x, stage[3])
            expected.append(x)
    for got, wanted in zip(outputs_of(model, image), expected):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


def test_frozen_stages_and_norm_eval():
    model = DenseNetCIFAR(10, frozen_stages=1, norm_eval=True).train()
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {
        n for n, _ in model.named_parameters() if n.startswith(('stem', 'stages.0'))
    }
    assert not any(m.training for m in model.modules() if isinstance(m, nn.BatchNorm2d))


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(depth=41), r'depth must be 3n\+4.*got 41'),
        (dict(depth=4), 'got 4'),
        (dict(growth_rate=0), 'growth_rate must be a whole number above 0, got 0'),
        (dict(stem_channels=1.5), 'stem_channels.*got 1.5'),
        (dict(out_indices=(3,)), r'out_indices must lie in 0…2, got \(3,\)'),
        (dict(frozen_stages=4), 'frozen_stages must lie in -1…3, got 4'),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(ValueError, match=message):
        DenseNetCIFAR(**arguments)
