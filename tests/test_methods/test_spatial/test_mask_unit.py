import pytest
import torch
from torch import nn
from torch.nn import functional

from mmdyn.methods.spatial.mask_unit import MaskSchedule, MaskUnit


def unit_of(channels=6, stride=1, cell=1, **schedule):
    unit = MaskUnit(channels, stride, cell, MaskSchedule(**schedule))
    nn.init.normal_(unit.fc.bias)
    return unit


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('size', [(7, 5), (1, 1), (8, 8)])
def test_logits_are_a_convolution_and_a_layer_of_the_pooled_map(stride, size):
    unit = unit_of(stride=stride)
    x = torch.randn(3, 6, *size)
    local = functional.conv2d(x, unit.conv.weight, unit.conv.bias, stride, padding=1)
    pooled = x.mean(dim=(2, 3)) @ unit.fc.weight.t() + unit.fc.bias
    expected = local + pooled[:, :, None, None]
    torch.testing.assert_close(unit.logits(x), expected, rtol=1e-5, atol=1e-5)
    unit.eval()
    assert torch.equal(unit(x), (unit.logits(x) >= 0).float())


@pytest.mark.parametrize('stride', [1, 2])
def test_cells_share_a_decision(stride):
    unit = unit_of(stride=stride, cell=3).eval()
    for parameter in (unit.fc.bias, unit.conv.bias):
        nn.init.zeros_(parameter)
    x = torch.randn(2, 6, 16, 13)
    mask = unit(x)
    height, width = -(-16 // stride), -(-13 // stride)
    assert mask.shape == (2, 1, height, width)
    assert 0 < mask.mean() < 1
    logits = unit.logits(x)
    for y in range(height):
        for column in range(width):
            decided = logits[:, 0, y // 3, column // 3] >= 0
            assert torch.equal(mask[:, 0, y, column] == 1, decided)


def test_a_cell_sees_the_mean_of_what_it_covers():
    """With a unit that copies the centre, logits are the means of 2 × 2 input cells."""
    unit = unit_of(channels=1, cell=2)
    for parameter in unit.parameters():
        nn.init.zeros_(parameter)
    unit.conv.weight.data[0, 0, 1, 1] = 1
    x = torch.arange(15.0).view(1, 1, 3, 5)
    expected = torch.tensor([[3.0, 5.0, 6.5], [10.5, 12.5, 14.0]])
    torch.testing.assert_close(unit.logits(x)[0, 0], expected)


def test_noise_makes_ones_as_often_as_the_sigmoid_says():
    unit = unit_of(temperature=5.0)
    for value in (-2.0, 0.0, 1.0):
        logits = torch.full((1, 1, 200, 200), value)
        mask = unit.decide(logits)
        assert set(mask.unique().tolist()) <= {0.0, 1.0}
        p = torch.sigmoid(torch.tensor(value)).item()
        deviation = (p * (1 - p) / 40000) ** 0.5
        assert abs(mask.mean().item() - p) < 3.5 * deviation


def test_hard_decision_has_the_gradient_of_the_soft_one():
    unit = unit_of(temperature=2.5, noise=False)
    logits = torch.randn(1, 1, 4, 4, requires_grad=True)
    mask = unit.decide(logits)
    assert torch.equal(mask.detach(), (logits >= 0).float())
    mask.sum().backward()
    soft = torch.sigmoid(logits.detach() / 2.5)
    torch.testing.assert_close(logits.grad, soft * (1 - soft) / 2.5)


def test_noise_is_finite_in_half_precision():
    logits = torch.zeros(1, 1, 300, 300, dtype=torch.bfloat16, requires_grad=True)
    unit_of(temperature=0.1).decide(logits).sum().backward()
    assert torch.isfinite(logits.grad).all()
