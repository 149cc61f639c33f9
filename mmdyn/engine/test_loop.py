"""The test loop that runs at every operating point and reports costs and scores."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from numbers import Real

from mmengine.dist import is_main_process
from mmengine.runner import TestLoop
from mmengine.runner.amp import autocast

from mmdyn.engine.loops import OperatingPointLoop
from mmdyn.engine.passes import PassTotals, progress_bar
from mmdyn.evaluation.latency import describe_device, measure_latency
from mmdyn.evaluation.point_result import PointResult
from mmdyn.evaluation.report import OperatingPointReport
from mmdyn.operating_point import (
    OperatingPoint,
    at_operating_point,
    dense_operating_point,
    untrained_operating_points,
)
from mmdyn.registry import LOOPS
from mmdyn.visualization.curve import draw_report

MAX_TIMED_BATCHES = 8


@LOOPS.register_module()
class OperatingPointTestLoop(OperatingPointLoop, TestLoop):
    """Test at each operating point and report costs and scores.

    A table is printed, and ``operating_points.json``, ``.csv`` and ``.png`` are written
    in the work directory: the evaluator's metrics, executed MACs, their share of the
    dense cost, and latency, measured alternately at all points on some batches after the
    evaluation. A model with nothing to switch is tested once, as ``dense``. Where
    ``points`` leaves out the dense point, one more pass counts its cost.

    Args:
        *args: Arguments of :class:`OperatingPointLoop`.
        metric (str | None): The metric to draw and to rank by, more being better;
            ``None`` or unknown: the first one.
        **kwargs: Arguments of :class:`OperatingPointLoop`.

    Example:
        >>> test_cfg = dict(type='mmdyn.OperatingPointTestLoop')
    """

    stage = 'test'

    def __init__(self, *args, metric: str | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        self.metric = metric

    def run(self) -> dict:
        """Test; returns the metrics of all points."""
        self.runner.call_hook('before_test')
        self.runner.call_hook('before_test_epoch')
        self.runner.model.eval()
        self._timed: dict[int, tuple] = {}
        results = self._run_points()
        metrics = self._all_metrics(results)
        # Before the hooks: an EMA hook takes its weights out of the model there.
        report = self._report(results)
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
        """Run one batch at the active operating point, and keep some to take time."""
        before = self.totals.meter.images
        super().run_iter(idx, data_batch)
        # From all over the dataset, which may be sorted by class.
        if idx % -(-len(self.dataloader) // MAX_TIMED_BATCHES) == 0:
            self._timed[idx] = self.totals.meter.images - before, data_batch

    def _report(self, results: list[PointResult]) -> OperatingPointReport:
        model = self.runner.model
        dense = dense_operating_point(model)
        batch_size = self._timed[0][0]
        full = [batch for size, batch in self._timed.values() if size == batch_size]
        with progress_bar() as bar:
            dense_macs = self._dense_macs_per_image(dense, results, bar)
            with autocast(enabled=self.fp16):
                latencies = measure_latency(
                    model,
                    [each.point for each in results],
                    full,
                    track=partial(bar.track, description='taking time'),
                )
        return OperatingPointReport(
            config=self.runner.cfg.filename,
            checkpoint=self.runner.cfg.get('load_from'),
            device=describe_device(),
            batch_size=batch_size,
            dense_point=dense.name,
            dense_macs_per_image=dense_macs,
            metric=self._known_metric(results),
            untrained_points=[point.name for point in untrained_operating_points(model)],
            points=[
                replace(
                    each,
                    # A model may have nothing to count.
                    cost_ratio=each.macs_per_image / (dense_macs or float('nan')),
                    latency_ms=latency,
                )
                for each, latency in zip(results, latencies)
            ],
        )

    def _known_metric(self, results: list[PointResult]) -> str | None:
        """The chosen metric; the first one, with a warning, if no point has it.

        An evaluator may leave a metric out at some points, those with no detections, so
        it is unknown only if all points lack it.
        """
        measured = dict.fromkeys(name for each in results for name in each.metrics)
        if self.metric is None or self.metric in measured:
            return self.metric
        self.runner.logger.warning(
            f'unknown metric {self.metric!r}; measured: {list(measured)}. '
            f'Ranking by the first'
        )
        return None

    def _dense_macs_per_image(self, dense: OperatingPoint, results, bar) -> float:
        if dense_result := self._dense_result(results):
            return dense_result.macs_per_image
        totals = PassTotals(self.runner.model, self.stage, self.fp16)
        with at_operating_point(self.runner.model, dense):
            for batch in bar.track(self.dataloader, description=f'counting {dense}'):
                totals.run(batch)
        totals.meter.reduce()
        return totals.meter.macs_per_image

    def _write(self, report: OperatingPointReport) -> None:
        directory = self.runner.work_dir
        try:
            files = [*report.write(directory), *draw_report(report, directory)]
        except OSError as error:
            raise OSError(
                f'the results printed above could not be written to {directory}: {error}'
            ) from error
        print('Written to', *files, sep='\n  ')
