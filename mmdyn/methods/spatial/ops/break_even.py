"""The share of executed MACs below which sparse execution of a block is quicker.

Both ways are timed on random numbers when a kind of block first runs.
"""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import nn
from torch.utils.benchmark import Timer

from mmdyn.methods.spatial.budget import BlockCost
from mmdyn.methods.spatial.ops.positions import read_mask
from mmdyn.methods.spatial.ops.residual import dense_residual, sparse_residual
from mmdyn.models.folding import FoldedConv

MARGIN = 0.97
"""Sparse execution must take at most this share of the time of the dense one."""
ROUNDS = 4
SMALLEST, LARGEST = 6, dict(cpu=13, cuda=17)
"""Powers of two to which positions are rounded; beyond, times are proportional."""


@dataclass(frozen=True)
class BlockKind:
    """Everything that the time of a block depends on but the active positions."""

    convs: tuple[tuple[int, ...], ...]  # channels in and out, kernel, stride, dilation
    identity: bool  # whether the skip connection is the input itself
    positions: int  # of the input in all images, rounded to a power of two
    dtype: torch.dtype
    device: torch.device
    threads: int

    @classmethod
    def of(cls, convs: list[nn.Conv2d], identity: bool, x: torch.Tensor) -> 'BlockKind':
        """The kind of a block with this branch and input."""
        positions = x.shape[0] * x.shape[2] * x.shape[3]
        largest = LARGEST.get(x.device.type, LARGEST['cpu'])
        power = min(max(round(math.log2(positions)), SMALLEST), largest)
        shapes = tuple(
            (c.in_channels, c.out_channels, c.kernel_size[0], c.stride[0], c.dilation[0])
            for c in convs
        )
        threads = torch.get_num_threads()
        return cls(shapes, identity, 1 << power, x.dtype, x.device, threads)


@cache
def break_even_share(kind: BlockKind) -> float:
    """The share of a block's MACs below which sparse execution is quicker; 0: never."""
    # A thread of its own has none of the modes (gradients, counters) of the caller.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(_measure, kind).result()


@torch.no_grad()
def _measure(kind: BlockKind) -> float:
    if kind.device.type == 'cuda':  # a new thread begins at the first GPU
        torch.cuda.set_device(kind.device)
    block = _RandomBlock(kind)
    shares, runs = zip(*(block.sparse(fraction) for fraction in (0.1, 0.6)))
    dense, low, high = _medians([block.dense(), *runs], kind.threads)
    slope = (high - low) / (shares[1] - shares[0])
    if slope <= 0:  # noise alone
        return 1.0 if high < MARGIN * dense else 0.0
    return max(0.0, shares[0] + (MARGIN * dense - low) / slope)


def _medians(runs: list[Callable[[], object]], threads: int) -> list[float]:
    """Median seconds of each, timed alternately, after warming up."""
    timers = [Timer('run()', globals=dict(run=r), num_threads=threads) for r in runs]
    times = [[timer.timeit(1).mean for timer in timers] for _ in range(ROUNDS + 1)]
    return torch.tensor(times[1:]).median(dim=0).values.tolist()


class _RandomBlock:
    """Runs of a block of a kind, with random weights, on a random image."""

    def __init__(self, kind: BlockKind):
        self.convs = [_random_conv(kind, *conv) for conv in kind.convs]
        side = round(kind.positions**0.5)
        shape = (1, kind.convs[0][0], side, side)
        x = torch.rand(shape, dtype=kind.dtype, device=kind.device)
        self.x = out = x.contiguous(memory_format=torch.channels_last)
        for conv in self.convs:
            out = conv(out)
        self.size = out.shape[2:]
        self.skip = self.x if kind.identity else out

    def dense(self) -> Callable[[], object]:
        """The run that computes everything."""
        return partial(dense_residual, self.x, self.skip, self._mask(1.0), self.convs)

    def sparse(self, fraction: float) -> tuple[float, Callable[[], object]]:
        """Share of the MACs with this share of active positions, and the run of it."""
        mask = self._mask(fraction)
        read = read_mask(mask, [conv.conv for conv in self.convs], self.x)
        share = float(BlockCost.of(self.convs, mask, read).share)
        return share, partial(sparse_residual, self.x, self.skip, read, mask, self.convs)

    def _mask(self, fraction: float) -> torch.Tensor:
        mask = self.x.new_zeros(1, 1, *self.size)
        mask[:, :, : max(1, round(fraction * self.size[0]))] = 1
        return mask


def _random_conv(kind: BlockKind, channels, outputs, kernel, stride, dilation):
    padding = dilation * (kernel // 2)
    conv = nn.Conv2d(channels, outputs, kernel, stride, padding, dilation)
    conv = conv.to(kind.device, kind.dtype, memory_format=torch.channels_last)
    return FoldedConv(conv.weight.detach(), conv.bias.detach(), conv)
