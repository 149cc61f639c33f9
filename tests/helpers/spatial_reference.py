"""Spatially adaptive blocks, one position at a time."""

import itertools

import torch


@torch.no_grad()
def read_by_loop(active, stride, dilation, size):
    """Positions that a 3×3 convolution with padding = dilation reads for the active ones.

    ``active`` and the result are sets of (image, row, column); ``size`` is the input's.
    """
    height, width = size
    taps = list(itertools.product((-dilation, 0, dilation), repeat=2))
    reached = {
        (n, y * stride + dy, x * stride + dx) for n, y, x in active for dy, dx in taps
    }
    return {(n, y, x) for n, y, x in reached if 0 <= y < height and 0 <= x < width}


def active_set(mask):
    return {(n, y, x) for n, _, y, x in mask.nonzero().tolist()}


def block_macs_by_loop(block, mask, shape):
    """MACs of a block's branch for a batch, counted position by position."""
    convs = block.branch_convs
    stride = convs[0].stride[0]
    size = tuple(-(-length // stride) for length in shape[2:])
    active = active_set(mask)
    read = read_by_loop(active, convs[1].stride[0], convs[1].dilation[0], size)
    first, *others = [
        c.in_channels * c.out_channels * c.kernel_size[0] ** 2 for c in convs
    ]
    return len(read) * first + len(active) * sum(others)


class FixedMask:
    """Makes a block use a given mask, whatever its mask unit decides."""

    def __init__(self, block, mask):
        self.mask = mask
        self.handle = block.budget_modules.mask_unit.register_forward_hook(self._answer)

    def _answer(self, unit, inputs, output):
        assert output.shape == self.mask.shape
        return self.mask.to(output)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.handle.remove()


@torch.no_grad()
def block_by_formula(block, x, mask):
    """relu(skip + mask × branch) from the block's own layers, called one by one."""
    modules = block.budget_modules
    out = x
    for index, conv in enumerate(block.branch_convs):
        out = getattr(modules, f'bn{index + 1}')(conv(out))
        if index + 1 < len(block.branch_convs):
            out = out.relu()
    skip = x
    if block.downsample is not None:
        for layer in block.downsample[:-1]:
            skip = layer(skip)
        skip = modules.downsample_norm(skip)
    return (skip + mask * out).relu()
