"""Input-independent masks, for timing untrained networks and as a baseline.

Blobs where low-frequency noise is highest, in each block as large as it takes for the
block to execute a given share of its MACs.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial

import torch
from mmengine.hooks import Hook
from torch import Tensor, nn
from torch.nn import functional

from mmdyn.engine.loss_hook import unwrapped
from mmdyn.methods.spatial.block import SpatialBlock, hooked_mask_units
from mmdyn.methods.spatial.budget import BlockCost, BudgetedModule
from mmdyn.methods.spatial.ops.positions import read_mask
from mmdyn.registry import HOOKS

PATCHES = 7
"""Independent noise values along the shorter side of an image."""


def active_budget(model: nn.Module) -> float:
    """The budget of a model's active point; a ``ValueError`` where it has no masks."""
    for module in model.modules():
        if isinstance(module, BudgetedModule):
            budget = module.operating_point.settings.get('budget')
            if budget is None:
                raise ValueError(f'there are no masks at {module.operating_point}')
            return budget
    raise ValueError(f'{type(model).__name__} has no module with budgets')


@HOOKS.register_module()
class RandomMasksHook(Hook):
    """Replace all masks by random blobs that execute the active budget.

    It is the baseline that trained masks have to beat. New masks are drawn for every
    forward pass, in training and evaluation alike; each block executes the budget.

    Example:
        >>> custom_hooks = [
        ...     dict(type='mmdyn.BudgetScheduleHook', weight=0),
        ...     dict(type='mmdyn.RandomMasksHook'),
        ... ]
    """

    def before_run(self, runner) -> None:
        model = unwrapped(runner.model)
        share = partial(active_budget, model)
        self._masks = synthetic_masks(model, share, fixed=False)
        self._masks.__enter__()

    def after_run(self, runner) -> None:
        self._masks.__exit__(None, None, None)


@contextmanager
def synthetic_masks(
    model: nn.Module, share: Callable[[], float], fixed: bool = True
) -> Iterator[None]:
    """Replace the masks of a model with spatial blocks, inside a ``with`` block.

    The mask units still run, so their cost stays. Blobs are at the same places in all
    blocks, as objects are.

    Args:
        model (nn.Module): The model.
        share (Callable[[], float]): Gives the share of each block's MACs to execute.
        fixed (bool): Whether every forward pass has the same masks; otherwise new ones
            are drawn from torch's random numbers.
    """
    blobs = _Blobs(share, fixed)
    renewal = nullcontext() if fixed else model.register_forward_pre_hook(blobs.renew)
    with renewal, hooked_mask_units(model, blobs.replace):
        yield


class _Blobs:
    """The masks of one forward pass, all made of the same smooth noise."""

    def __init__(self, share: Callable[[], float], fixed: bool):
        self.share = share
        self.fixed = fixed
        self.renew()

    def renew(self, *_) -> None:
        self.masks: dict[tuple, Tensor] = {}
        self.coarse: Tensor | None = None

    def replace(
        self, name: str, block: SpatialBlock, unit, inputs, mask: Tensor
    ) -> Tensor:
        share = self.share()
        key = (block, mask.shape, share)
        if key not in self.masks:
            self.masks[key] = _blobs(block, inputs[0], self._noise(mask.shape), share)
        return self.masks[key].to(mask)

    def _noise(self, shape: torch.Size) -> Tensor:
        """The noise (N, 1, H, W), the same pattern at every resolution."""
        n, _, height, width = shape
        if self.coarse is None or len(self.coarse) != n:
            patch = min(height, width) / PATCHES
            grid = [round(height / patch), round(width / patch)]
            seed = 0 if self.fixed else int(torch.randint(2**31, ()))
            generator = torch.Generator().manual_seed(seed)
            self.coarse = torch.randn(n, 1, *grid, generator=generator)
        return functional.interpolate(self.coarse, (height, width), mode='bicubic')


@torch.no_grad()
def _blobs(block: SpatialBlock, x: Tensor, noise: Tensor, share: float) -> Tensor:
    """The mask of the highest noise whose executed share is the nearest above."""
    levels = noise.flatten().sort(descending=True).values

    def executed(number: int) -> float:
        mask = (noise >= levels[number]).float()
        read = read_mask(mask, block.branch_convs, x)
        return float(BlockCost.of(block.branch_convs, mask, read).share)

    # More active positions execute more: bisect their number.
    number = bisect_left(range(len(levels) - 1), share, key=executed)
    return (noise >= levels[number]).float()
