"""The test loop that runs at every operating point and reports costs and scores."""

import math
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
from mmdyn.evaluation.report import OperatingPointReport
from mmdyn.operating_point import at_operating_point, untrained_operating_points
from mmdyn.registry import LOOPS
from mmdyn.visualization.curve import draw_report

MAX_TIMED_BATCHES = 8


@LOOPS.register_module()
class OperatingPointTestLoop(OperatingPointLoop, TestLoop):
    """Test at each operating point and report costs and scores.

    A table is printed, and ``operating_points.json``, ``.csv`` and ``.png`` are written
    in the work directory: the evaluator's metrics, executed MACs, their share of the
    dense cost, which takes one more pass if that point is left out, and latency, measured
    alternately at all points on some batches. A model with nothing to switch is tested
    once, as ``dense``.

    Args:
        metric (str | None): The metric to draw and to rank by, more being better;
            ``None`` or unknown: the first one.
        *args, **kwargs: Arguments of :class:`OperatingPointLoop`.

    Example:
        >>> test_cfg = dict(type='mmdyn.OperatingPointTestLoop')
    """

    stage = 'test'

    def __init__(self, *args, metric: str | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        self.metric = metric

    def run(self) -> dict:
        self._timed: dict[int, tuple] = {}
        metrics = super().run()
        if is_main_process():
            self._publish(self._report)
        return metrics

    def before_hooks(self, metrics: dict) -> None:
        self._report = self._make_report()
        scalars = {k: float(v) for k, v in metrics.items() if isinstance(v, Real)}
        self.runner.visualizer.add_scalars(scalars)

    def run_iter(self, idx: int, data_batch: Sequence[dict]) -> None:
        """Run one batch at the active operating point, and keep some to take time."""
        before = self.totals.meter.images
        super().run_iter(idx, data_batch)
        # From all over the dataset, which may be sorted by class.
        if idx % -(-len(self.dataloader) // MAX_TIMED_BATCHES) == 0:
            self._timed[idx] = self.totals.meter.images - before, data_batch

    def _make_report(self) -> OperatingPointReport:
        model, points = self.runner.model, [each.point for each in self.results]
        batch_size = self._timed[0][0]
        full = [batch for size, batch in self._timed.values() if size == batch_size]
        with progress_bar() as bar:
            dense_macs = self._dense_macs_per_image(bar)
            with autocast(enabled=self.fp16):
                track = partial(bar.track, description='taking time')
                latencies = measure_latency(model, points, full, track)
        whole = dense_macs or math.nan  # a model may have nothing to count
        return OperatingPointReport(
            config=self.runner.cfg.filename,
            checkpoint=self.runner.cfg.get('load_from'),
            device=describe_device(),
            batch_size=batch_size,
            dense_point=self.dense.name,
            dense_macs_per_image=dense_macs,
            metric=self._known_metric(),
            untrained_points=[point.name for point in untrained_operating_points(model)],
            points=[
                replace(each, cost_ratio=each.macs_per_image / whole, latency_ms=latency)
                for each, latency in zip(self.results, latencies)
            ],
        )

    def _known_metric(self) -> str | None:
        """The chosen metric; ``None``, with a warning, if no point has it."""
        # Some points may lack a metric, for example where nothing is detected.
        measured = list(dict.fromkeys(m for each in self.results for m in each.metrics))
        if self.metric is None or self.metric in measured:
            return self.metric
        unknown = f'unknown metric {self.metric!r}; measured: {measured}'
        self.runner.logger.warning(f'{unknown}. Ranking by the first')
        return None

    def _dense_macs_per_image(self, bar) -> float:
        if self.dense_result:
            return self.dense_result.macs_per_image
        totals = PassTotals(self.runner.model, self.stage, self.fp16)
        with at_operating_point(self.runner.model, self.dense):
            for batch in bar.track(self.dataloader, description=f'counting {self.dense}'):
                totals.run(batch)
        totals.meter.reduce()
        return totals.meter.macs_per_image

    def _publish(self, report: OperatingPointReport) -> None:
        report.print()
        folder = self.runner.work_dir
        try:
            files = [*report.write(folder), *draw_report(report, folder)]
        except OSError as error:
            problem = f'the results printed above could not be written to {folder}'
            raise OSError(f'{problem}: {error}') from error
        print('Written to', *files, sep='\n  ')
