"""Input-independent masks, for timing untrained networks and as a baseline.

Blobs where low-frequency noise is highest, in each block as large as it takes for the
block to execute a given share of its MACs.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from mmengine.hooks import Hook
from torch import Tensor, nn
from torch.nn import functional

from mmdyn.engine.loss_hook import unwrapped
from mmdyn.methods.spatial.block import SpatialBlock, mask_units
from mmdyn.methods.spatial.budget import BudgetedModule
from mmdyn.registry import HOOKS

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
        share (Callable[[], float]): Gives the share of each block's MACs to execute, for
            each forward pass.
        fixed (bool): Whether every forward pass has the same masks; otherwise new ones
            are drawn from torch's random numbers.
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
    """Smooth noise of one forward pass, and the masks that were made of it."""

    def __init__(self, fixed: bool):
        self.fixed = fixed
        self.masks: dict[tuple, Tensor] = {}
        self.coarse: Tensor | None = None

    def renew(self, *_) -> None:
        if not self.fixed:
            self.masks.clear()
            self.coarse = None

    def at(self, shape: torch.Size) -> Tensor:
        """The noise (N, 1, H, W), the same pattern at every resolution."""
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
