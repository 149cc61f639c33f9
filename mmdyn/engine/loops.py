"""Validation and test loops that run at every operating point."""

import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Real

import torch
from mmengine.device import get_device
from mmengine.dist import all_reduce, is_main_process
from mmengine.logging import MessageHub
from mmengine.runner import TestLoop, ValLoop
from mmengine.runner.amp import autocast
from mmengine.runner.loops import _parse_losses, _update_losses

from mmdyn.evaluation.cost import CostMeter
from mmdyn.evaluation.latency import measure_latency
from mmdyn.evaluation.report import OperatingPointReport, PointResult
from mmdyn.evaluation.uncertainty.metric import ACTIVE_POINT
from mmdyn.operating_point import (
    OperatingPoint,
    at_operating_point,
    dense_operating_point,
    find_operating_points,
    forward_statistics,
    operating_points,
    trained_operating_points,
    untrained_operating_points,
)
from mmdyn.registry import LOOPS

_MAX_TIMED_BATCHES = 8


@dataclass
class _Pass:
    """One run over the dataset at one operating point."""

    point: OperatingPoint
    metrics: dict
    meter: CostMeter


class _OperatingPointLoop:
    """What both loops share: a pass over the dataset for each operating point."""

    stage: str

    def _choose_points(self, names) -> list[OperatingPoint]:
        if len(self.dataloader.dataset) == 0:
            raise ValueError('the dataset to evaluate on is empty')
        model = self.runner.model
        names = [names] if isinstance(names, str) else names
        if names is None:
            names = [point.name for point in trained_operating_points(model)]
        points = find_operating_points(model, names)
        if not points:
            valid = [point.name for point in operating_points(model)]
            raise ValueError(f'points is empty; valid ones: {valid}')
        return points

    def _run_points(self) -> list[_Pass]:
        passes, points = [], self._runnable_points()
        with _progress_bar() as bar:
            task = bar.add_task('', total=len(points) * len(self.dataloader))
            for number, point in enumerate(points, 1):
                title = f'{point} ({number} of {len(points)})'
                bar.update(task, description=title)
                if bar.disable:
                    self.runner.logger.info(f'Operating point {title}')
                with at_operating_point(self.runner.model, point):
                    passes.append(self._run_point(point, lambda: bar.advance(task)))
        return passes

    def _runnable_points(self) -> list[OperatingPoint]:
        """The points that the weights allow; it must not end a training if one is not."""
        runnable, reasons = [], []
        for point in self.points:
            try:
                with at_operating_point(self.runner.model, point):
                    runnable.append(point)
            except ValueError as error:
                reasons.append(f'{point} is left out: {error}')
                self.runner.logger.warning(reasons[-1])
        if not runnable:
            raise ValueError('; '.join(reasons))
        return runnable

    def _run_point(self, point: OperatingPoint, advance: Callable) -> _Pass:
        self.meter, self._losses = CostMeter(), {}
        # Metrics do not see the model.
        hub = MessageHub.get_current_instance()
        hub.update_info(ACTIVE_POINT, point, resumed=False)
        self._statistics: dict[str, float] = {}
        for idx, data_batch in enumerate(self.dataloader):
            self.run_iter(idx, data_batch)
            advance()
        self.meter.reduce()
        metrics = self.evaluator.evaluate(len(self.dataloader.dataset))
        hub.update_info(ACTIVE_POINT, None, resumed=False)
        if self._losses:
            metrics.update(_parse_losses(self._losses, self.stage))
        metrics.update(self._mean_statistics())
        return _Pass(point, metrics, self.meter)

    @torch.no_grad()
    def run_iter(self, idx: int, data_batch: Sequence[dict]) -> None:
        """Run one batch at the active operating point."""
        batch = dict(batch_idx=idx, data_batch=data_batch)
        self.runner.call_hook(f'before_{self.stage}_iter', **batch)
        outputs = self._forward(data_batch)
        self.evaluator.process(data_samples=outputs, data_batch=data_batch)
        self.runner.call_hook(f'after_{self.stage}_iter', **batch, outputs=outputs)

    def _forward(self, data_batch):
        """Run the model on a batch, counting what it executes."""
        step = getattr(self.runner.model, f'{self.stage}_step')
        with self.meter, autocast(enabled=self.fp16):
            outputs = step(data_batch)
        outputs, self._losses = _update_losses(outputs, self._losses)
        self.meter.images += len(outputs)
        for name, value in forward_statistics(self.runner.model).items():
            total = self._statistics.get(name, 0.0)
            self._statistics[name] = total + value * len(outputs)
        return outputs

    def _mean_statistics(self) -> dict[str, float]:
        """Means over the images of all ranks."""
        totals = torch.tensor(list(self._statistics.values()), dtype=torch.float64)
        all_reduce(totals)
        means = totals / self.meter.images
        return dict(zip(self._statistics, means.tolist()))

    def _dense_pass(self, passes: list[_Pass]) -> _Pass | None:
        """The pass at the dense point, if it was run."""
        dense = dense_operating_point(self.runner.model)
        return next((each for each in passes if each.point == dense), None)

    def _all_metrics(self, passes: list[_Pass]) -> dict:
        """Metrics as ``<point>/<metric>``, and those of the reference under plain names.

        The reference is the dense point, or the last one where that was not run: hooks
        that look for the stock names (``save_best``, plateau schedulers) find them.
        """
        reference = self._dense_pass(passes) or passes[-1]
        metrics = dict(reference.metrics)
        for each in passes:
            for name, value in each.metrics.items():
                metrics[f'{each.point.name}/{name}'] = value
            metrics[f'{each.point.name}/macs_per_image'] = each.meter.macs_per_image
        return metrics


@LOOPS.register_module()
class OperatingPointValLoop(_OperatingPointLoop, ValLoop):
    """Validate at each operating point.

    The metrics that hooks and the visualizer get are named ``<point>/<metric>``; those
    of the dense point come under their stock names too, so ``save_best`` and schedulers
    need no change. A model with nothing to switch is validated once, as ``dense``.

    Args:
        runner (Runner): The runner.
        dataloader (DataLoader | dict): A dataloader or its config.
        evaluator (Evaluator | dict | list): The evaluator or its config.
        fp16 (bool): Whether to run in half precision.
        points (str | Sequence[str] | None): Names of the points; ``None``: all that are
            trained.

    Raises:
        ValueError: For a point that the model does not offer, or an empty dataset.

    Example:
        >>> val_cfg = dict(type='mmdyn.OperatingPointValLoop')
    """

    stage = 'val'

    def __init__(self, runner, dataloader, evaluator, fp16: bool = False, points=None):
        super().__init__(runner, dataloader, evaluator, fp16)
        self.points = self._choose_points(points)

    def run(self) -> dict:
        """Validate; returns the metrics of all points."""
        self.runner.call_hook('before_val')
        self.runner.call_hook('before_val_epoch')
        self.runner.model.eval()
        metrics = self._all_metrics(self._run_points())
        self.runner.call_hook('after_val_epoch', metrics=metrics)
        self.runner.call_hook('after_val')
        return metrics


@LOOPS.register_module()
class OperatingPointTestLoop(_OperatingPointLoop, TestLoop):
    """Test at each operating point and report what it costs and scores.

    A table is printed, and ``operating_points.json``, ``.csv`` and ``.png`` are written
    in the work directory: the evaluator's metrics, executed MACs, their share of what
    the model costs with nothing skipped, and latency, for which the points take turns
    on some batches after the evaluation. A model with nothing to switch is tested once,
    as ``dense``. Where ``points`` leaves out the dense point, one more pass counts its
    cost.

    Args:
        runner (Runner): The runner.
        dataloader (DataLoader | dict): A dataloader or its config.
        evaluator (Evaluator | dict | list): The evaluator or its config.
        fp16 (bool): Whether to run in half precision.
        points (str | Sequence[str] | None): Names of the points; ``None``: all that are
            trained.
        metric (str | None): The metric to draw and to rank by, more being better;
            ``None`` or unknown: the first one.

    Raises:
        ValueError: For a point that the model does not offer, or an empty dataset.

    Example:
        >>> test_cfg = dict(type='mmdyn.OperatingPointTestLoop')
    """

    stage = 'test'

    def __init__(
        self,
        runner,
        dataloader,
        evaluator,
        fp16: bool = False,
        points=None,
        metric: str | None = None,
    ):
        super().__init__(runner, dataloader, evaluator, fp16)
        self.points = self._choose_points(points)
        self.metric = metric

    def run(self) -> dict:
        """Test; returns the metrics of all points."""
        self.runner.call_hook('before_test')
        self.runner.call_hook('before_test_epoch')
        self.runner.model.eval()
        self._timed_batches: list = []
        self._is_first_pass = True
        passes = self._run_points()
        metrics = self._all_metrics(passes)
        # Before the hooks: an EMA hook takes its weights out of the model there.
        report = self._report(passes)
        self.runner.call_hook('after_test_epoch', metrics=metrics)
        self.runner.visualizer.add_scalars(
            {k: float(v) for k, v in metrics.items() if isinstance(v, Real)}
        )
        self.runner.call_hook('after_test')
        if is_main_process():
            report.print()
            self._write(report)
        return metrics

    def run_iter(self, idx: int, data_batch: Sequence[dict]) -> None:
        before = self.meter.images
        super().run_iter(idx, data_batch)
        if self._is_first_pass:
            self._keep_for_timing(idx, data_batch, self.meter.images - before)

    def _run_point(self, point: OperatingPoint, advance: Callable) -> _Pass:
        result = super()._run_point(point, advance)
        self._is_first_pass = False
        return result

    def _keep_for_timing(self, idx: int, data_batch, size: int) -> None:
        """Keep full batches from all over the dataset, which may be sorted by class."""
        if idx == 0:
            self._batch_size = size
        stride = -(-len(self.dataloader) // _MAX_TIMED_BATCHES)
        if idx % stride == 0 and size == self._batch_size:
            self._timed_batches.append(data_batch)

    def _report(self, passes: list[_Pass]) -> OperatingPointReport:
        dense = dense_operating_point(self.runner.model)
        with _progress_bar() as bar:
            dense_macs = self._dense_macs_per_image(dense, passes, bar)
            with autocast(enabled=self.fp16):
                latencies = measure_latency(
                    self.runner.model,
                    [each.point for each in passes],
                    self._timed_batches,
                    track=partial(bar.track, description='taking time'),
                )
        return OperatingPointReport(
            config=self.runner.cfg.filename,
            checkpoint=self.runner.cfg.get('load_from'),
            device=_describe_device(),
            batch_size=self._batch_size,
            dense_point=dense.name,
            dense_macs_per_image=dense_macs,
            metric=self._known_metric(passes),
            untrained_points=[
                p.name for p in untrained_operating_points(self.runner.model)
            ],
            points=[
                PointResult(
                    name=each.point.name,
                    metrics=each.metrics,
                    macs_per_image=each.meter.macs_per_image,
                    cost_ratio=_ratio(each.meter.macs_per_image, dense_macs),
                    latency_ms=latency,
                )
                for each, latency in zip(passes, latencies)
            ],
        )

    def _known_metric(self, passes: list[_Pass]) -> str | None:
        """The chosen metric; the first one, with a warning, if no point has it.

        An evaluator may leave a metric out at some points, those that find nothing, so
        only the last of them tells.
        """
        measured = dict.fromkeys(name for each in passes for name in each.metrics)
        if self.metric is None or self.metric in measured:
            return self.metric
        self.runner.logger.warning(
            f'unknown metric {self.metric!r}; measured: {list(measured)}. '
            f'Ranking by the first'
        )
        return None

    def _dense_macs_per_image(self, dense: OperatingPoint, passes, bar) -> float:
        if dense_pass := self._dense_pass(passes):
            return dense_pass.meter.macs_per_image
        self.meter = CostMeter()
        batches = bar.track(self.dataloader, description=f'counting {dense}')
        with at_operating_point(self.runner.model, dense), torch.no_grad():
            for data_batch in batches:
                self._forward(data_batch)
        self.meter.reduce()
        return self.meter.macs_per_image

    def _write(self, report: OperatingPointReport) -> None:
        try:
            written = report.write(self.runner.work_dir)
        except OSError as error:
            raise OSError(
                f'the results printed above could not be written to '
                f'{self.runner.work_dir}: {error}'
            ) from error
        print('Written to', *written, sep='\n  ')


def _ratio(macs: float, dense_macs: float) -> float:
    """Share of the dense cost; not a number for a model with nothing to count."""
    return macs / dense_macs if dense_macs else float('nan')


def _progress_bar():
    from rich.console import Console
    from rich.progress import Progress

    visible = is_main_process() and sys.stderr.isatty()
    return Progress(console=Console(stderr=True), disable=not visible, transient=True)


def _describe_device() -> str:
    if get_device() == 'cuda':
        return torch.cuda.get_device_name()
    return f'{get_device()} ({platform.machine()}, {torch.get_num_threads()} threads)'
