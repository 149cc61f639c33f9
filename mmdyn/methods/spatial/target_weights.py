"""Target awareness: weights of budgets by the distances of scores from targets."""

from collections.abc import Mapping, Sequence
from numbers import Real

from mmengine.hooks import EMAHook
from mmengine.runner import EpochBasedTrainLoop

from mmdyn.engine.passes import PassTotals
from mmdyn.operating_point import (
    OperatingPoint,
    at_operating_point,
    dense_operating_point,
)
from mmdyn.utils.validation import check_choice

_STATE = 'mmdyn/budget_weights'  # in the message hub, which checkpoints contain


class TargetWeights:
    """The weights of the budgets' losses by point name, updated after each validation."""

    def __init__(
        self,
        norm: str,
        targets: str | Mapping[str, float],
        metric: str | None,
        points: Sequence[OperatingPoint],
        runner,
    ):
        self.norm = norm
        self.metric = metric
        self.weights = {point.name: 1.0 for point in points}
        self._check_loop(runner)
        state = runner.message_hub.runtime_info.get(_STATE) if runner.iter > 0 else None
        if state is None:
            self.targets = self._resolve(targets, runner)
            self._save(runner)
            return
        self.weights, self.targets = dict(state['weights']), dict(state['targets'])
        if state['step'] < runner.iter and _validation_was_due(runner):
            # Checkpoints are written before the validation of their step, which is of
            # averaged weights if there are any.
            averages = [hook for hook in runner.hooks if isinstance(hook, EMAHook)]
            for hook in averages:
                hook.before_val_epoch(runner)
            try:
                self._update(runner, {p.name: self._score(runner, p) for p in points})
            finally:
                for hook in averages:
                    hook.after_val_epoch(runner)

    def _check_loop(self, runner) -> None:
        loop = runner.val_loop
        offered = [point.name for point in getattr(loop, 'points', ())]
        if missing := [name for name in self.weights if name not in offered]:
            raise ValueError(
                f'awareness={self.norm!r} needs the scores of {missing} from val_cfg='
                f"dict(type='mmdyn.OperatingPointValLoop'), got {type(loop).__name__} of "
                f'{offered}'
            )

    def _resolve(self, targets: str | Mapping[str, float], runner) -> dict[str, float]:
        if targets == 'dense':
            score = self._score(runner, dense_operating_point(runner.model))
            return dict.fromkeys(self.weights, score)
        if set(targets) != set(self.weights):
            raise ValueError(
                f'targets must be given for {list(self.weights)}, got {list(targets)}'
            )
        return dict(targets)

    def _score(self, runner, point: OperatingPoint) -> float:
        """Score of the model at a point; no hooks of a validation run."""
        loop, model = runner.val_loop, runner.model
        runner.logger.info(f'Measuring the score at {point}')
        totals = PassTotals(model, 'val', loop.fp16)
        model.eval()
        with at_operating_point(model, point):
            for batch in loop.dataloader:
                loop.evaluator.process(data_samples=totals.run(batch), data_batch=batch)
        metrics = loop.evaluator.evaluate(len(loop.dataloader.dataset))
        model.train()
        return float(metrics[self._metric_of(metrics)])

    def _metric_of(self, metrics: Mapping) -> str:
        names = [name for name, value in metrics.items() if isinstance(value, Real)]
        metric = self.metric or next(iter(names), None)
        check_choice('metric', metric, names)
        return metric

    def validated(self, runner, metrics: Mapping) -> None:
        """Set the weights by the metrics of a validation, ``<point>/<metric>``."""
        start = f'{next(iter(self.weights))}/'
        of_first = {
            k.removeprefix(start): v for k, v in metrics.items() if k.startswith(start)
        }
        metric = self._metric_of(of_first)
        self._update(runner, {name: metrics[f'{name}/{metric}'] for name in self.weights})

    def _update(self, runner, reached: Mapping[str, float]) -> None:
        """Set the weights by the scores of the points."""
        self.weights = target_weights(reached, self.targets, self.norm)
        for name, weight in self.weights.items():
            runner.message_hub.update_scalar(f'val/{name}/loss_weight', weight)
        listed = ', '.join(f'{name} {w:.3f}' for name, w in self.weights.items())
        runner.logger.info(f'Weights of the budgets: {listed}')
        self._save(runner)

    def _save(self, runner) -> None:
        state = dict(step=runner.iter, weights=self.weights, targets=self.targets)
        runner.message_hub.update_info(_STATE, state)


def target_weights(
    reached: Mapping[str, float], targets: Mapping[str, float], norm: str
) -> dict[str, float]:
    """Weights of the losses, with mean 1; all are 1 if every target is reached.

    With scores a and targets t of the points: ``'l2'``: in proportion to (t - a)²;
    ``'l1'``: to 1 - a / t where that is positive.
    """
    if norm == 'l2':
        distances = {n: (targets[n] - a) ** 2 for n, a in reached.items()}
    else:
        distances = {n: max(0.0, 1 - a / targets[n]) for n, a in reached.items()}
    total = sum(distances.values())
    if total == 0:
        return dict.fromkeys(reached, 1.0)
    return {n: len(reached) * d / total for n, d in distances.items()}


def trains_by_epoch(runner) -> bool:
    """Whether training counts epochs, and not steps alone."""
    return isinstance(runner.train_loop, EpochBasedTrainLoop)


def _validation_was_due(runner) -> bool:
    done = runner.epoch if trains_by_epoch(runner) else runner.iter
    return done >= runner.val_begin and done % runner.val_interval == 0
