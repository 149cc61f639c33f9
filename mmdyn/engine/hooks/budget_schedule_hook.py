"""Train one network for several budgets in turns.

Budget-aware Dynamic Spatially Adaptive Inference, Zampokas, Bouganis, Tzovaras.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from numbers import Real

import torch
from mmengine.runner import EpochBasedTrainLoop
from torch import nn

from mmdyn.engine.loops import OperatingPointValLoop
from mmdyn.models.arguments import check_choice
from mmdyn.models.budgeted import BudgetedModule
from mmdyn.operating_point import (
    OperatingPoint,
    at_operating_point,
    dense_operating_point,
)
from mmdyn.registry import HOOKS

from .loss_hook import LossHook, scaled, unwrapped

__all__ = ['BudgetScheduleHook', 'awareness_weights', 'bounds_progress', 'point_at']

ORDERS = ('round_robin', 'random', 'sandwich')
AWARENESS = ('l1', 'l2', 'none')
_WEIGHTS = 'mmdyn/budget_weights'  # in the message hub, which checkpoints contain


@HOOKS.register_module()
class BudgetScheduleHook(LossHook):
    """Let budgets take turns, one a step, and steer the masks to them.

    Before each step it picks the operating point, temperature and noise; to the model's
    losses it adds the budget loss. With ``awareness`` it scales the other losses of a
    budget after each validation by how far the budget is from its target; the validation
    loop must be ``mmdyn.OperatingPointValLoop`` then.

    Executed shares are logged: each budget's in every line of the log, each block's at
    the end of an epoch, or of a validation interval where training counts steps.
    Weights of budgets are in the checkpoint; all else follows from the step, so a
    resumed training goes on exactly.

    Args:
        order (str): ``'round_robin'``; ``'random'``, the same for all ranks and for a
            resumed training; ``'sandwich'``: the lowest, the highest, one between.
        temperature (Sequence[tuple[float, float]]): Pairs of a share of the training and
            the temperature from there on. The paper changes it where the learning rate
            steps.
        noise_until (float): Share of the training after which masks have no noise.
        bounds_until (float): Share of the training in which the bounds of single blocks
            are relaxed; 0 for no such bounds.
        weight (float): Weight of the budget loss.
        awareness (str): How weights follow distances d from the targets: ``'l2'``, in
            proportion to d², ``'l1'``, to d / target, or ``'none'``.
        targets (str | Mapping[str, float]): Target of each point by its name, for
            example ``{'budget=0.3': 72.3}``; or ``'dense'``: what the network scores at
            ``dense`` before it is trained, for all.
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
        check_choice('order', order, ORDERS)
        check_choice('awareness', awareness, AWARENESS)
        _check_shares('noise_until', [noise_until])
        _check_shares('bounds_until', [bounds_until])
        _check_temperature(temperature)
        if targets != 'dense' and not isinstance(targets, Mapping):
            raise ValueError(f"targets must be 'dense' or a dict, got {targets!r}")
        if not weight >= 0:
            raise ValueError(f'weight must be 0 or more, got {weight!r}')
        self.order = order
        self.temperature = [tuple(pair) for pair in temperature]
        self.noise_until = noise_until
        self.bounds_until = bounds_until
        self.weight = weight
        self.awareness = awareness
        self.targets = targets
        self.metric = metric

    def before_train(self, runner) -> None:
        self.backbones = _budgeted(runner.model)
        first = self.backbones[0]
        untrained = first.untrained_operating_points
        self.points = [p for p in first.operating_points if p not in untrained]
        self.weights = {point.name: 1.0 for point in self.points}
        self._block_shares = defaultdict(list)
        super().before_train(runner)
        if self.awareness == 'none':
            return
        if not isinstance(runner.val_loop, OperatingPointValLoop):
            raise ValueError(
                f"awareness={self.awareness!r} needs val_cfg=dict(type='mmdyn."
                f"OperatingPointValLoop'), got {type(runner.val_loop).__name__}"
            )
        hub = runner.message_hub
        if runner.iter > 0 and _WEIGHTS in hub.runtime_info:
            state = hub.get_info(_WEIGHTS)
            self.weights, self._targets = dict(state['weights']), dict(state['targets'])
            if state['step'] < runner.iter and _validation_was_due(runner):
                # Checkpoints are written before the validation of their step.
                self._weigh(runner, {p.name: self._score(runner, p) for p in self.points})
        else:
            self._targets = self._resolve_targets(runner)
            self._save(runner)

    def _resolve_targets(self, runner) -> dict[str, float]:
        if self.targets == 'dense':
            score = self._score(runner, dense_operating_point(runner.model))
            return dict.fromkeys(self.weights, score)
        if set(self.targets) != set(self.weights):
            raise ValueError(
                f'targets must be given for {list(self.weights)}, got '
                f'{list(self.targets)}'
            )
        return dict(self.targets)

    def _score(self, runner, point: OperatingPoint) -> float:
        """What the model scores at a point, without the hooks of a validation."""
        loop, model = runner.val_loop, runner.model
        runner.logger.info(f'Measuring the score at {point}')
        model.eval()
        with at_operating_point(model, point), torch.no_grad():
            for batch in loop.dataloader:
                outputs = model.val_step(batch)
                loop.evaluator.process(data_samples=outputs, data_batch=batch)
        metrics = loop.evaluator.evaluate(len(loop.dataloader.dataset))
        model.train()
        return float(metrics[self._metric_of(metrics)])

    def _metric_of(self, metrics: Mapping) -> str:
        names = [name for name, value in metrics.items() if isinstance(value, Real)]
        metric = self.metric or next(iter(names), None)
        check_choice('metric', metric, names)
        return metric

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        done = runner.iter / runner.max_iters
        self.point = point_at(runner.iter, self.points, self.order, runner.seed or 0)
        for backbone in self.backbones:
            backbone.set_operating_point(self.point)
            schedule = backbone.mask_schedule
            schedule.temperature = value_at(self.temperature, done)
            schedule.noise = done < self.noise_until
            schedule.progress = bounds_progress(done, self.bounds_until)

    def change_losses(self, model, args, kwargs, losses: dict) -> dict:
        losses = scaled(losses, self.weights[self.point.name])
        for backbone in self.backbones:
            for name, loss in backbone.auxiliary_losses().items():
                losses[name] = losses.get(name, 0) + self.weight * loss
        return losses

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None):
        name = self.point.name
        shares = [b.forward_statistics()['executed_share'] for b in self.backbones]
        mean = sum(shares) / len(shares)
        runner.message_hub.update_scalar(f'train/{name}/executed', mean)
        for backbone in self.backbones:
            for block, cost in backbone.block_costs().items():
                self._block_shares[name, block].append(cost.executed / cost.total)
        if not _by_epoch(runner) and self.every_n_train_iters(
            runner, runner.val_interval
        ):
            self._log_blocks(runner)

    def after_train_epoch(self, runner) -> None:
        if _by_epoch(runner):
            self._log_blocks(runner)

    def _log_blocks(self, runner) -> None:
        means = {k: sum(v) / len(v) for k, v in self._block_shares.items()}
        self._block_shares.clear()
        scalars = {f'{name}/executed/{block}': m for (name, block), m in means.items()}
        runner.visualizer.add_scalars(scalars, step=runner.iter + 1)
        for point in self.points:
            blocks = ', '.join(
                f'{block} {m:.2f}'
                for (name, block), m in means.items()
                if name == point.name
            )
            if blocks:
                runner.logger.info(f'Executed at {point}: {blocks}')

    def after_val_epoch(self, runner, metrics: dict | None = None) -> None:
        if self.awareness == 'none' or not hasattr(self, '_targets'):
            return
        scores = {
            name: {
                key.removeprefix(f'{name}/'): value
                for key, value in metrics.items()
                if key.startswith(f'{name}/') and not key.endswith('/macs_per_image')
            }
            for name in self.weights
        }
        metric = self._metric_of(next(iter(scores.values())))
        self._weigh(runner, {name: score[metric] for name, score in scores.items()})

    def _weigh(self, runner, reached: dict[str, float]) -> None:
        self.weights = awareness_weights(reached, self._targets, self.awareness)
        for name, weight in self.weights.items():
            runner.message_hub.update_scalar(f'val/{name}/loss_weight', weight)
        runner.logger.info(
            'Weights of the budgets: '
            + ', '.join(f'{name} {weight:.3f}' for name, weight in self.weights.items())
        )
        self._save(runner)

    def _save(self, runner) -> None:
        state = dict(
            step=runner.iter, weights=dict(self.weights), targets=dict(self._targets)
        )
        runner.message_hub.update_info(_WEIGHTS, state)


def point_at(
    step: int, points: Sequence[OperatingPoint], order: str, seed: int
) -> OperatingPoint:
    """The operating point of a training step.

    Args:
        step (int): Step, from 0.
        points (Sequence[OperatingPoint]): The points, from the cheapest.
        order (str): See :class:`BudgetScheduleHook`.
        seed (int): Seed of what is random.

    Returns:
        OperatingPoint: One of the points; the same for the same arguments.
    """
    chance = random.Random(f'{seed}/{step}')
    if order == 'random' or len(points) == 1:
        return chance.choice(points)
    if order == 'sandwich':
        ends = (points[0], points[-1], chance.choice(points[1:-1] or points))
        return ends[step % 3]
    return points[step % len(points)]


def value_at(pairs: Sequence[tuple[float, float]], done: float) -> float:
    """The value of the last pair (start, value) whose start has been reached."""
    return [value for start, value in pairs if start <= done][-1]


def bounds_progress(done: float, until: float) -> float:
    """cos² from 1 at the start of training to 0 at the share ``until`` of it."""
    return math.cos(min(done / until, 1) * math.pi / 2) ** 2 if until else 0.0


def awareness_weights(
    reached: Mapping[str, float], targets: Mapping[str, float], norm: str
) -> dict[str, float]:
    """Weights of the losses, with mean 1, from scores and their targets.

    Args:
        reached (Mapping[str, float]): Score of each point.
        targets (Mapping[str, float]): Target of each.
        norm (str): ``'l2'``: in proportion to (t - a)²; ``'l1'``: to 1 - a / t where
            that is positive.

    Returns:
        dict[str, float]: Weight of each; 1 for all if every target is reached.
    """
    if norm == 'l2':
        distances = {n: (targets[n] - a) ** 2 for n, a in reached.items()}
    else:
        distances = {n: max(0.0, 1 - a / targets[n]) for n, a in reached.items()}
    total = sum(distances.values())
    if total == 0:
        return dict.fromkeys(reached, 1.0)
    return {n: len(reached) * d / total for n, d in distances.items()}


def _budgeted(model: nn.Module) -> list[BudgetedModule]:
    model = unwrapped(model)
    found = [m for m in model.modules() if isinstance(m, BudgetedModule)]
    if not found:
        raise ValueError(
            f'mmdyn.BudgetScheduleHook needs a model with budgets, such as one with '
            f"backbone=dict(type='mmdyn.SpatialResNet', …); {type(model).__name__} has "
            f'no module with budgets'
        )
    return found


def _by_epoch(runner) -> bool:
    return isinstance(runner.train_loop, EpochBasedTrainLoop)


def _validation_was_due(runner) -> bool:
    done = runner.epoch if _by_epoch(runner) else runner.iter
    return done >= runner.val_begin and done % runner.val_interval == 0


def _check_shares(name: str, values: Sequence[float]) -> None:
    if not all(isinstance(v, Real) and 0 <= v <= 1 for v in values):
        raise ValueError(f'{name} must lie in 0…1, got {values[0]!r}')


def _check_temperature(pairs: Sequence[tuple[float, float]]) -> None:
    starts = [start for start, _ in pairs]
    if not starts or starts[0] != 0 or starts != sorted(starts) or starts[-1] >= 1:
        raise ValueError(
            'temperature must be pairs (share of the training, temperature), the shares '
            f'rising from 0 and below 1, got {pairs!r}'
        )
    if not all(value > 0 for _, value in pairs):
        raise ValueError(f'temperatures must be above 0, got {pairs!r}')
