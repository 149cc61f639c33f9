"""Masks that look at nothing: for timing untrained networks, and as a baseline.

Blobs where low-frequency noise is highest, in each block so large that the block executes
exactly a share of its MACs.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmdyn.methods.spatial.block import SpatialBlock, mask_units
from mmdyn.methods.spatial.budgeted import BudgetedModule

PATCHES = 7
"""Independent noise values along the shorter side of an image."""


def active_budget(model: nn.Module) -> float:
    """The budget that a model's masks should keep at its operating point.

    Raises:
        ValueError: If the model has no masks, or computes everything at this point.
    """
    for module in model.modules():
        if isinstance(module, BudgetedModule):
            budget = module.operating_point.settings.get('budget')
            if budget is None:
                raise ValueError(f'there are no masks at {module.operating_point}')
            return budget
    raise ValueError(f'{type(model).__name__} has no module with budgets')


@contextmanager
def synthetic_masks(
    model: nn.Module, share: Callable[[], float], fixed: bool = True
) -> Iterator[None]:
    """Replace what mask units decide, inside a ``with`` block.

    The units run all the same, so their cost stays. Blobs are at the same places in all
    blocks, as objects are.

    Args:
        model (nn.Module): A model with spatial blocks.
        share (Callable[[], float]): The share of each block's MACs to execute, asked for
            in each forward pass.
        fixed (bool): The same masks for every forward pass; otherwise new ones, from
            torch's random numbers.
    """
    noise = _Noise(fixed)
    handles = [
        unit.register_forward_hook(partial(_replace, block, share, noise))
        for _, block, unit in mask_units(model)
    ]
    handles.append(model.register_forward_pre_hook(noise.renew))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Noise:
    """Smooth noise for one forward pass, and the masks that were cut from it."""

    def __init__(self, fixed: bool):
        self.fixed = fixed
        self.masks: dict[tuple, Tensor] = {}
        self.coarse: Tensor | None = None

    def renew(self, *_) -> None:
        if not self.fixed:
            self.masks.clear()
            self.coarse = None

    def at(self, shape: torch.Size) -> Tensor:
        """The noise (N, 1, H, W), the same places at every resolution."""
        n, _, height, width = shape
        if self.coarse is None or len(self.coarse) != n:
            patch = min(height, width) / PATCHES
            grid = [round(height / patch), round(width / patch)]
            seed = 0 if self.fixed else int(torch.randint(2**31, ()))
            generator = torch.Generator().manual_seed(seed)
            self.coarse = torch.randn(n, 1, *grid, generator=generator)
        return functional.interpolate(self.coarse, (height, width), mode='bicubic')


def _replace(block, share, noise: _Noise, unit, inputs, mask: Tensor) -> Tensor:
    key = (block, mask.shape, share())
    if key not in noise.masks:
        noise.masks[key] = _blobs(block, inputs[0], noise.at(mask.shape), share())
    return noise.masks[key].to(mask)


@torch.no_grad()
def _blobs(block: SpatialBlock, x: Tensor, noise: Tensor, share: float) -> Tensor:
    """The mask of the highest noise whose executed share is the nearest above."""
    levels = noise.flatten().sort(descending=True).values
    low, high = 0, len(levels) - 1
    while low < high:  # more active positions execute more: bisect their number
        middle = (low + high) // 2
        if block.executed_share((noise >= levels[middle]).float(), x) < share:
            low = middle + 1
        else:
            high = middle
    return (noise >= levels[low]).float()
