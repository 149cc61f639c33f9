import pytest
import torch
from helpers.mod_reference import mod_by_loop

from mmdyn.methods.mod.layer import (
    FUSIONS,
    MixtureOfDepths,
    check_mod_arguments,
)


@pytest.mark.parametrize(
    ('channels', 'divisor', 'selected'), [(64, 64, 1), (2048, 64, 32), (24, 64, 1)]
)
def test_channels_selected(channels, divisor, selected):
    mod = MixtureOfDepths(channels, divisor, 'first', 16)
    assert mod.num_selected == mod.selector.num_selected == selected


@pytest.mark.parametrize('fusion', FUSIONS)
@pytest.mark.parametrize('relu', [False, True])
@pytest.mark.parametrize('gradients', [False, True])
def test_any_process_against_a_loop(fusion, relu, gradients):
    mod = MixtureOfDepths(12, 4, fusion, 2, relu=relu)
    x = torch.randn(5, 12, 3, 4)
    x = x.relu() if relu else x
    expected = mod_by_loop(mod, x, torch.sin)
    with torch.set_grad_enabled(gradients):
        torch.testing.assert_close(mod(x.clone(), torch.sin), expected)


def test_gradients_by_finite_differences():
    mod = MixtureOfDepths(6, 3, 'last', 2, relu=False).double()
    x = torch.randn(2, 6, 2, 2, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: mod(x, torch.sin), (x,))


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ((33, 'first', 16), 'divisor must lie in 1…32, .* first block, got 33'),
        ((1, 'second', 16), "one of .'first', 'last', 'original'., got 'second'"),
        ((1, 'first', -1), 'reduction must be a whole number above 0, got -1'),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(ValueError, match=message):
        check_mod_arguments(*arguments, limit=32)
