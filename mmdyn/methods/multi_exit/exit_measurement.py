"""Measurement of the exits that the samples of a dataset take."""

import argparse
from collections.abc import Iterable, Sequence

from mmengine.runner import Runner

from mmdyn.engine.loss_hook import unwrapped
from mmdyn.engine.runner import (
    build_runner,
    load_config,
    load_whole_checkpoint,
    require_settings,
)
from mmdyn.evaluation.saved_points import load_operating_points
from mmdyn.methods.multi_exit.classifier import MultiExitClassifier, require_classifier
from mmdyn.methods.multi_exit.exit_statistics import ExitStatistics, ExitStatisticsMetric
from mmdyn.operating_point import (
    at_operating_point,
    find_operating_points,
    operating_points,
)


def statistics_runner(args: argparse.Namespace) -> Runner:
    """A runner whose model offers the points saved beside a checkpoint, not yet loaded.

    ``args`` are ``config``, ``checkpoint`` and those that ``load_config`` takes.
    """
    cfg = load_config(args)
    cfg.load_from = args.checkpoint
    cfg.test_cfg = dict(type='TestLoop')  # one pass, at the point that is active
    require_settings(cfg, 'exit statistics need', 'test_dataloader', 'test_evaluator')
    runner = build_runner(cfg, 'test_dataloader')
    model = unwrapped(runner.model)
    require_classifier(model, 'exit statistics need')
    load_operating_points(model, args.checkpoint)
    return runner


def choose_points(model: MultiExitClassifier, names: Iterable[str] | None) -> list[str]:
    """Names of the points to run at; ``None``: all at which samples choose an exit."""
    valid = [point.name for point in operating_points(model)]
    if names is None:
        adaptive = [p.name for p in model.operating_points if 'exit' not in p.settings]
        # Where the backbone has points too, names are joined, its own coming last.
        names = [name for name in valid if name.split('+')[0] in adaptive]
    if not names:
        raise ValueError(
            f'at every point of the model all samples take one exit; to see one of '
            f'them, name it with --points, among {valid}'
        )
    return [point.name for point in find_operating_points(model, dict.fromkeys(names))]


def measure_exits(runner: Runner, names: Sequence[str]) -> dict[str, ExitStatistics]:
    """Run the test data at each point; the statistics by point, on the main rank."""
    model = unwrapped(runner.model)
    metric = ExitStatisticsMetric(model.num_exits, model.num_classes)
    runner.test_evaluator.metrics.append(metric)
    load_whole_checkpoint(runner)
    results = {}
    for name in names:
        runner.logger.info(f'Operating point {name}')
        with at_operating_point(model, name):
            runner.test_loop.run()
        results[name] = metric.statistics
    runner.call_hook('after_run')
    return results
