"""Training of one network for several budgets.

Budget-aware Dynamic Spatially Adaptive Inference, Zampokas, Bouganis, Tzovaras.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from numbers import Real

from torch import nn

from mmdyn.engine.schedule_hook import OperatingPointScheduleHook
from mmdyn.methods.spatial.budget import BudgetedModule
from mmdyn.methods.spatial.target_weights import TargetWeights, trains_by_epoch
from mmdyn.models.losses import scaled_losses
from mmdyn.registry import HOOKS
from mmdyn.utils.validation import check_choice

AWARENESS = ('l1', 'l2', 'none')


@HOOKS.register_module()
class BudgetScheduleHook(OperatingPointScheduleHook):
    """Train budgets alternately, one per iteration, and steer the masks to them.

    On top of :class:`mmdyn.engine.schedule_hook.OperatingPointScheduleHook` it sets the
    temperature and noise of the masks and the bounds of the budget loss, and logs each
    block's executed share at the end of an epoch, or of a validation interval where
    training counts iterations. With ``awareness`` it scales the other losses of a budget
    after each validation by the budget's distance from its target. A resumed training
    continues exactly.

    Args:
        order (str): ``'round_robin'``, ``'random'`` or ``'sandwich'``.
        temperature (Sequence[tuple[float, float]]): Pairs of a share of the training and
            the temperature from there on. The paper changes it where the learning rate
            steps.
        noise_until (float): Share of the training after which masks have no noise.
        bounds_until (float): Share of the training in which the bounds of single blocks
            are relaxed; 0 for no such bounds.
        weight (float): Weight of the budget loss.
        awareness (str): How weights follow distances d from the targets: ``'l2'``, in
            proportion to d², ``'l1'``, to d / target, or ``'none'``. All but the last
            need ``mmdyn.OperatingPointValLoop``.
        targets (str | Mapping[str, float]): Target of each point by its name, for
            example ``{'budget=0.3': 72.3}``; or ``'dense'``: for all points the score at
            ``dense`` before training.
        metric (str | None): Metric of the targets, more being better; ``None``: the
            first one that the evaluator returns.

    Raises:
        ValueError: For an unknown order or awareness, shares outside 0…1, a model
            without budgets, or targets that do not name the trained points.

    Example:
        >>> custom_hooks = [dict(type='mmdyn.BudgetScheduleHook')]
        >>> val_cfg = dict(type='mmdyn.OperatingPointValLoop')
    """

    def __init__(
        self,
        order: str = 'round_robin',
        temperature: Sequence[tuple[float, float]] = ((0, 5.0), (0.5, 2.5), (0.75, 1.0)),
        noise_until: float = 0.8,
        bounds_until: float = 0.33,
        weight: float = 10.0,
        awareness: str = 'none',
        targets: str | Mapping[str, float] = 'dense',
        metric: str | None = None,
    ):
        super().__init__(order=order, weight=weight)
        check_choice('awareness', awareness, AWARENESS)
        shares = dict(noise_until=noise_until, bounds_until=bounds_until)
        for name, share in shares.items():
            if not (isinstance(share, Real) and 0 <= share <= 1):
                raise ValueError(f'{name} must lie in 0…1, got {share!r}')
        _check_temperature(temperature)
        if targets != 'dense' and not isinstance(targets, Mapping):
            raise ValueError(f"targets must be 'dense' or a dict, got {targets!r}")
        self.temperature = temperature
        self.noise_until = noise_until
        self.bounds_until = bounds_until
        self.awareness = awareness
        self.targets = targets
        self.metric = metric
        self.aware: TargetWeights | None = None

    def before_train(self, runner) -> None:
        self._block_shares = defaultdict(lambda: defaultdict(list))  # by point, block
        super().before_train(runner)
        if self.awareness != 'none':
            self.aware = TargetWeights(
                self.awareness, self.targets, self.metric, self.points, runner
            )

    def switched_modules(self, model: nn.Module) -> list[nn.Module]:
        found = [m for m in model.modules() if isinstance(m, BudgetedModule)]
        if not found:
            raise ValueError(
                'mmdyn.BudgetScheduleHook needs a model with budgets, such as '
                f'mmdyn.SpatialResNet; {type(model).__name__} has no module with budgets'
            )
        return found

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        super().before_train_iter(runner, batch_idx, data_batch)
        done = runner.iter / runner.max_iters
        temperatures = [value for start, value in self.temperature if start <= done]
        for backbone in self.modules:
            schedule = backbone.mask_schedule
            schedule.temperature = temperatures[-1]
            schedule.noise = done < self.noise_until
            schedule.progress = bounds_progress(done, self.bounds_until)

    def change_losses(self, model, args, kwargs, losses: dict) -> dict:
        if self.aware is not None:
            losses = scaled_losses(losses, self.aware.weights[self.point.name])
        return super().change_losses(model, args, kwargs, losses)

    def statistics(self) -> dict[str, float]:
        shares = [b.forward_statistics()['executed_share'] for b in self.modules]
        return dict(executed=sum(shares) / len(shares))

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None):
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        for backbone in self.modules:
            for block, cost in backbone.block_costs().items():
                self._block_shares[self.point.name][block].append(cost.share)
        if not trains_by_epoch(runner) and self.every_n_train_iters(
            runner, runner.val_interval
        ):
            self._log_blocks(runner)

    def after_train_epoch(self, runner) -> None:
        if trains_by_epoch(runner):
            self._log_blocks(runner)

    def _log_blocks(self, runner) -> None:
        scalars = {}
        for point, blocks in self._block_shares.items():
            means = {name: float(sum(v) / len(v)) for name, v in blocks.items()}
            scalars |= {f'{point}/executed/{name}': m for name, m in means.items()}
            listed = ', '.join(f'{name} {m:.2f}' for name, m in means.items())
            runner.logger.info(f'Executed at {point}: {listed}')
        runner.visualizer.add_scalars(scalars, step=runner.iter + 1)
        self._block_shares.clear()

    def after_val_epoch(self, runner, metrics: dict | None = None) -> None:
        if self.aware is not None:  # a validation without training has none
            self.aware.validated(runner, metrics)


def bounds_progress(done: float, until: float) -> float:
    """cos² from 1 at the start of training to 0 at the share ``until`` of it."""
    return math.cos(min(done / until, 1) * math.pi / 2) ** 2 if until else 0.0


def _check_temperature(pairs: Sequence[tuple[float, float]]) -> None:
    starts = [start for start, _ in pairs]
    if starts[:1] != [0] or starts != sorted(starts) or starts[-1] >= 1:
        raise ValueError(
            'temperature must be pairs (share of the training, temperature), the shares '
            f'rising from 0 and below 1, got {pairs!r}'
        )
    if not all(value > 0 for _, value in pairs):
        raise ValueError(f'temperatures must be above 0, got {pairs!r}')
