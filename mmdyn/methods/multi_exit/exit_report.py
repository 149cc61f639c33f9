"""Measurement and report of the exits that the samples of a dataset take."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner

from mmdyn.engine.loss_hook import unwrapped
from mmdyn.engine.runner import build_runner, load_whole_checkpoint, require_settings
from mmdyn.evaluation.saved_points import load_operating_points
from mmdyn.evaluation.tables import Column, number_column, print_table, write_table
from mmdyn.methods.multi_exit.classifier import MultiExitClassifier, require_classifier
from mmdyn.methods.multi_exit.exit_shares import draw_exit_shares
from mmdyn.methods.multi_exit.exit_statistics import (
    ExitStatistics,
    ExitStatisticsMetric,
    class_groups,
)
from mmdyn.operating_point import (
    at_operating_point,
    find_operating_points,
    operating_points,
)


def statistics_runner(cfg: Config, checkpoint: str) -> Runner:
    """A runner whose model offers the points saved beside a checkpoint, not yet loaded.

    Raises:
        ValueError: If the config has no test data, or another kind of model.
    """
    cfg.load_from = checkpoint
    cfg.test_cfg = dict(type='TestLoop')  # one pass, at the point that is active
    require_settings(cfg, 'exit statistics need', 'test_dataloader', 'test_evaluator')
    runner = build_runner(cfg)
    model = unwrapped(runner.model)
    require_classifier(model, 'exit statistics need')
    load_operating_points(model, checkpoint)
    return runner


def choose_points(model: MultiExitClassifier, names: Iterable[str] | None) -> list[str]:
    """Names of the points to run at; ``None``: all at which samples can choose an exit.

    Raises:
        ValueError: If the model does not offer one, or has none with a choice.
    """
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


def print_exits(results: Mapping[str, ExitStatistics]) -> None:
    """Print share and accuracy of each exit, and those of groups of classes."""
    rows = []
    for point, found in results.items():
        columns = zip(found.samples.sum(0), 100 * found.shares, 100 * found.accuracies)
        rows += [(point, str(exit), *cells) for exit, cells in enumerate(columns, 1)]
        rows.append((point, 'all', found.samples.sum(), 100, 100 * found.accuracy))
    titles = ('point', 'exit', 'samples', 'share %', 'accuracy on its own samples %')
    print_table(_columns(titles, rows), 'Samples that take each exit')
    rows = [
        (
            point,
            'most at exit 1' if group.most else 'fewest at exit 1',
            group.classes,
            100 * group.first_exit_share,
            100 * group.accuracy,
        )
        for point, found in results.items()
        for group in class_groups(found)
    ]
    titles = ('point', 'classes with', 'classes', 'share at exit 1 %', 'accuracy %')
    title = 'Classes by their share at exit 1'
    print_table(_columns(titles, rows), title, 'Means over the classes.')


def _columns(titles: Sequence[str], rows: Sequence[tuple]) -> list[Column]:
    """Two columns of text, one of counts and two of percentages."""
    *texts, counts, shares, accuracies = zip(*rows)
    return [
        *(Column(title, '', text) for title, text in zip(titles, texts)),
        number_column(titles[2], '', counts, 0),
        number_column(titles[3], '', shares, 2),
        number_column(titles[4], '', accuracies, 2),
    ]


def write_exits(
    results: Mapping[str, ExitStatistics], classes: Sequence[str], folder: Path
) -> list[Path]:
    """Write ``exit_statistics.csv``, a row for each class at each point, and ``.png``.

    Cells without samples are empty in the table.
    """
    rows = [
        (point, number, name, *_class_cells(found, number))
        for point, found in results.items()
        for number, name in enumerate(classes)
    ]
    keys = ['point', 'class', 'name', 'samples', 'accuracy_percent']
    for exit in range(1, next(iter(results.values())).samples.shape[1] + 1):
        of_exit = ('samples', 'share_percent', 'accuracy_percent')
        keys += [f'exit{exit}_{key}' for key in of_exit]
    columns = [Column('', key, values) for key, values in zip(keys, zip(*rows))]
    table = write_table(columns, folder / 'exit_statistics.csv')
    picture = table.with_suffix('.png')
    draw_exit_shares(
        {point: found.class_shares for point, found in results.items()},
        {point: found.class_accuracies for point, found in results.items()},
        picture,
    )
    return [table, picture]


def _class_cells(found: ExitStatistics, number: int) -> list:
    cells = [found.samples[number].sum(), 100 * found.class_accuracies[number]]
    for samples, share, accuracy in zip(
        found.samples[number],
        found.class_shares[number],
        found.class_exit_accuracies[number],
    ):
        cells += [samples, 100 * share, 100 * accuracy]
    return ['' if math.isnan(cell) else cell for cell in cells]


def class_names(runner: Runner, number: int) -> list[str]:
    """Names that the test dataset gives its classes, or their numbers."""
    names = getattr(runner.test_dataloader.dataset, 'metainfo', {}).get('classes') or ()
    return list(names) if len(names) == number else [str(i) for i in range(number)]
