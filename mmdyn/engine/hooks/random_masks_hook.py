"""The baseline that trained masks have to beat: masks that look at nothing."""

from __future__ import annotations

from functools import partial

from mmengine.hooks import Hook

from mmdyn.evaluation.synthetic_masks import budget_in_force, synthetic_masks
from mmdyn.registry import HOOKS

from .loss_hook import unwrapped

__all__ = ['RandomMasksHook']


@HOOKS.register_module()
class RandomMasksHook(Hook):
    """Replace all masks by random blobs that execute exactly the budget in force.

    New ones are drawn for every forward pass, in training and evaluation alike; each
    block executes the budget.

    Example:
        >>> custom_hooks = [
        ...     dict(type='mmdyn.BudgetScheduleHook', weight=0),
        ...     dict(type='mmdyn.RandomMasksHook'),
        ... ]
    """

    def before_run(self, runner) -> None:
        model = unwrapped(runner.model)
        share = partial(budget_in_force, model)
        self._masks = synthetic_masks(model, share, fixed=False)
        self._masks.__enter__()

    def after_run(self, runner) -> None:
        self._masks.__exit__(None, None, None)
