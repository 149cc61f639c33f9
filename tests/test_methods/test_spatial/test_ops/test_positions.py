import pytest
import torch
from helpers.spatial_reference import active_set, read_by_loop

from mmdyn.methods.spatial.ops.positions import (
    dense_rows,
    dilate,
    numbered_rows,
    tap_rows,
)


@pytest.mark.parametrize('stride', [1, 2, 3])
@pytest.mark.parametrize('dilation', [1, 2, 4])
@pytest.mark.parametrize('size', [(9, 6), (1, 1), (4, 11)])
def test_dilated_mask_is_what_a_convolution_reads(stride, dilation, size):
    height, width = (-(-length // stride) for length in size)
    mask = (torch.rand(3, 1, height, width) < 0.2).float()
    mask[1] = 0
    got = active_set(dilate(mask, stride, dilation, size))
    assert got == read_by_loop(active_set(mask), stride, dilation, size)


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('dilation', [1, 3])
def test_taps_gather_the_patches_that_unfold_gives(stride, dilation):
    x = torch.rand(2, 4, 7, 6)
    patches = torch.nn.functional.unfold(x, 3, dilation, padding=dilation, stride=stride)
    patches = patches.view(2, 4, 9, -1).permute(0, 3, 2, 1).flatten(0, 1)  # P, 9, C
    positions = torch.randperm(len(patches))[:10]
    rows = dense_rows(x.shape, x.device)
    taps = tap_rows(rows, positions, stride, dilation, outside=rows.numel())
    padded = torch.cat([x.permute(0, 2, 3, 1).reshape(-1, 4), torch.zeros(1, 4)])
    assert torch.equal(padded[taps], patches[positions])


def test_rows_of_some_positions():
    rows = numbered_rows(torch.tensor([1, 4, 5]), (1, 2, 3))
    assert rows.tolist() == [[[3, 0, 3], [3, 1, 2]]]


def test_dilation_passes_gradients_on():
    mask = torch.zeros(1, 1, 5, 5)
    mask[..., 2, 2] = 1
    mask.requires_grad_()
    dilate(mask, 1, 1, (5, 5)).sum().backward()
    assert mask.grad[..., 2, 2] == 9  # nine positions are read because of it
