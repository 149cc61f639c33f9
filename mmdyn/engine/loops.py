"""The validation loop that runs at every operating point, and its base."""

from collections.abc import Callable, Sequence

import torch
from mmengine.logging import MessageHub
from mmengine.runner import ValLoop

from mmdyn.engine.passes import PassTotals, progress_bar
from mmdyn.evaluation.point_result import PointResult
from mmdyn.evaluation.uncertainty.metric import ACTIVE_POINT
from mmdyn.operating_point import (
    OperatingPoint,
    at_operating_point,
    check_runnable,
    dense_operating_point,
    find_operating_points,
    operating_points,
    trained_operating_points,
)
from mmdyn.registry import LOOPS


class OperatingPointLoop:
    """A pass over the dataset for each operating point: the base of both loops.

    Arguments are those of MMEngine's loops, and ``points``, the names of points (str or
    Sequence[str]); ``None``: all that are trained.

    Attributes:
        results (list[PointResult]): Of the latest run, one for each point.
        dense_result (PointResult | None): That of the dense point, if it was run.
    """

    stage: str  # as hooks and the model's steps are named

    def __init__(self, runner, dataloader, evaluator, fp16: bool = False, points=None):
        super().__init__(runner, dataloader, evaluator, fp16)
        self.points = self._choose_points(points)

    def _choose_points(self, names) -> Sequence[OperatingPoint]:
        if len(self.dataloader.dataset) == 0:
            raise ValueError('the dataset to evaluate on is empty')
        model = self.runner.model
        if names is None:
            return trained_operating_points(model)
        names = [names] if isinstance(names, str) else names
        points = find_operating_points(model, names)
        if not points:
            valid = [point.name for point in operating_points(model)]
            raise ValueError(f'points is empty; valid ones: {valid}')
        return points

    def run(self) -> dict:
        """Evaluate; returns the metrics of all points."""
        call_hook = self.runner.call_hook
        call_hook(f'before_{self.stage}')
        call_hook(f'before_{self.stage}_epoch')
        self.runner.model.eval()
        self.results = self._run_points()
        by_name = {each.name: each for each in self.results}
        self.dense = dense_operating_point(self.runner.model)
        self.dense_result = by_name.get(self.dense.name)
        metrics = self._all_metrics()
        self.before_hooks(metrics)
        call_hook(f'after_{self.stage}_epoch', metrics=metrics)
        call_hook(f'after_{self.stage}')
        return metrics

    def before_hooks(self, metrics: dict) -> None:
        """Use the weights that were evaluated, before EMA hooks take theirs out."""

    def _run_points(self) -> list[PointResult]:
        results, points = [], self._runnable_points()
        with progress_bar() as bar:
            task = bar.add_task('', total=len(points) * len(self.dataloader))
            for number, point in enumerate(points, 1):
                title = f'{point} ({number} of {len(points)})'
                bar.update(task, description=title)
                if bar.disable:
                    self.runner.logger.info(f'Operating point {title}')
                with at_operating_point(self.runner.model, point):
                    results.append(self._run_point(point, lambda: bar.advance(task)))
        return results

    def _runnable_points(self) -> list[OperatingPoint]:
        """The points that the weights allow; others must not end a training."""
        runnable, reasons = [], []
        for point in self.points:
            try:
                check_runnable(self.runner.model, point)
                runnable.append(point)
            except ValueError as error:
                reasons.append(f'{point} is left out: {error}')
                self.runner.logger.warning(reasons[-1])
        if not runnable:
            raise ValueError('; '.join(reasons))
        return runnable

    def _run_point(self, point: OperatingPoint, advance: Callable) -> PointResult:
        self.totals = PassTotals(self.runner.model, self.stage, self.fp16)
        # Metrics do not see the model.
        hub = MessageHub.get_current_instance()
        hub.update_info(ACTIVE_POINT, point, resumed=False)
        for idx, data_batch in enumerate(self.dataloader):
            self.run_iter(idx, data_batch)
            advance()
        metrics = self.evaluator.evaluate(len(self.dataloader.dataset))
        hub.update_info(ACTIVE_POINT, None, resumed=False)
        metrics.update(self.totals.reduce())
        macs = self.totals.meter.macs_per_image
        return PointResult(point.name, metrics, macs, settings=point.settings)

    @torch.no_grad()
    def run_iter(self, idx: int, data_batch: Sequence[dict]) -> None:
        batch = dict(batch_idx=idx, data_batch=data_batch)
        self.runner.call_hook(f'before_{self.stage}_iter', **batch)
        outputs = self.totals.run(data_batch)
        self.evaluator.process(data_samples=outputs, data_batch=data_batch)
        self.runner.call_hook(f'after_{self.stage}_iter', **batch, outputs=outputs)

    def _all_metrics(self) -> dict:
        """Metrics as ``<point>/<metric>``, and for hooks under their stock names.

        These are of the dense point, or of the last one where that was not run.
        """
        metrics = dict((self.dense_result or self.results[-1]).metrics)
        for each in self.results:
            named = {**each.metrics, 'macs_per_image': each.macs_per_image}
            metrics.update({f'{each.name}/{key}': value for key, value in named.items()})
        return metrics


@LOOPS.register_module()
class OperatingPointValLoop(OperatingPointLoop, ValLoop):
    """Validate at each operating point.

    The metrics that hooks and the visualizer get are named ``<point>/<metric>``; those
    of the dense point come under their stock names too, for ``save_best`` and schedulers.
    A model with nothing to switch is validated once, as ``dense``. Arguments are those of
    :class:`OperatingPointLoop`.

    Example:
        >>> val_cfg = dict(type='mmdyn.OperatingPointValLoop')
    """

    stage = 'val'
