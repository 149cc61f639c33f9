"""The baseline that trained masks have to beat: masks that look at nothing."""

from functools import partial

from mmengine.hooks import Hook

from mmdyn.engine.loss_hook import unwrapped
from mmdyn.methods.spatial.random_masks import active_budget, synthetic_masks
from mmdyn.registry import HOOKS


@HOOKS.register_module()
class RandomMasksHook(Hook):
    """Replace all masks by random blobs that execute exactly the active budget.

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
        share = partial(active_budget, model)
        self._masks = synthetic_masks(model, share, fixed=False)
        self._masks.__enter__()

    def after_run(self, runner) -> None:
        self._masks.__exit__(None, None, None)
