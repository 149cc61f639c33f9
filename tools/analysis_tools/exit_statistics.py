"""Show at which exits of a classifier samples leave, and how often they are right there.

Runs the test data of the config at operating points at which samples part ways. Prints
the share of the samples and the accuracy on them for each exit, and what classes that
leave early score beside those that leave late (Lin et al., Figs. 5, 9 and 10); writes
exit_statistics.csv, a row a class, and exit_statistics.png in the work directory. Points
that were searched for and saved beside the checkpoint are among those offered.

example: python tools/analysis_tools/exit_statistics.py CONFIG CHECKPOINT --point balanced
"""

import argparse
import csv
import math
import sys
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.runner import Runner
from rich.console import Console
from rich.table import Table

from mmdyn import at_operating_point, load_operating_points, operating_points
from mmdyn.engine.fitting_checkpoint_hook import FittingCheckpointHook
from mmdyn.engine.loss_hook import unwrapped
from mmdyn.engine.runner import (
    add_launch_arguments,
    build_runner,
    load_config,
    refuse_empty_dataset,
    set_loader_defaults,
    use_pinned_memory,
)
from mmdyn.evaluation.report import console_for_tables
from mmdyn.methods.multi_exit.classifier import MultiExitClassifier
from mmdyn.methods.multi_exit.exit_shares import draw_exit_shares
from mmdyn.methods.multi_exit.exit_statistics import (
    ExitStatistics,
    ExitStatisticsMetric,
    class_groups,
)
from mmdyn.operating_point import find_operating_points


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--point',
        nargs='+',
        metavar='POINT',
        help='operating points to run at (default: all at which samples leave at '
        'several exits)',
    )
    add_launch_arguments(parser)
    return parser.parse_args()


def prepare_runner(args: argparse.Namespace) -> Runner:
    """A runner whose model offers the points saved beside the checkpoint.

    The checkpoint itself is not loaded yet.
    """
    cfg = load_config(args)
    cfg.load_from = args.checkpoint
    cfg.test_cfg = dict(type='TestLoop')  # one pass: this tool goes through the points
    set_loader_defaults(cfg, ['test_dataloader'], pin_memory=use_pinned_memory(args))
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    missing = [n for n in ('test_dataloader', 'test_evaluator') if cfg.get(n) is None]
    if missing:
        raise ValueError(f'exit statistics need {", ".join(missing)} in {args.config}')
    runner = build_runner(cfg)
    model = unwrapped(runner.model)
    if not isinstance(model, MultiExitClassifier):
        raise ValueError(
            f'exit statistics need an mmdyn.MultiExitClassifier, got a '
            f'{type(model).__name__}'
        )
    load_operating_points(model, args.checkpoint)
    refuse_empty_dataset(runner, 'test_dataloader')
    runner.register_hook(FittingCheckpointHook())
    return runner


def choose_points(model: MultiExitClassifier, names: list[str] | None) -> list[str]:
    """Names of the points to run at.

    Raises:
        ValueError: If the model does not offer one, or none leaves a choice of exits.
    """
    offered = operating_points(model)
    valid = [point.name for point in offered]
    if names is None:
        adaptive = [p.name for p in model.operating_points if 'exit' not in p.settings]
        # Where the backbone has points too, names are joined, its own coming last.
        names = [name for name in valid if name.split('+')[0] in adaptive]
    if not names:
        raise ValueError(
            f'at every point of the model all samples leave at one exit; to see one of '
            f'them, name it with --point, among {valid}'
        )
    return [point.name for point in find_operating_points(model, dict.fromkeys(names))]


def evaluate(runner: Runner, names: list[str]) -> dict[str, ExitStatistics]:
    """Run the test data at each point; the statistics by point, on the main rank."""
    model = unwrapped(runner.model)
    metric = ExitStatisticsMetric(model.num_exits, model.num_classes)
    runner.test_evaluator.metrics.append(metric)
    runner.call_hook('before_run')
    runner.load_or_resume()
    results = {}
    for name in names:
        runner.logger.info(f'Operating point {name}')
        with at_operating_point(model, name):
            runner.test_loop.run()
        results[name] = metric.statistics
    runner.call_hook('after_run')
    return results


def class_names(runner: Runner, number: int) -> list[str]:
    """Names that the dataset gives its classes, or their numbers."""
    names = getattr(runner.test_dataloader.dataset, 'metainfo', {}).get('classes') or ()
    return list(names) if len(names) == number else [str(i) for i in range(number)]


def percent(value: float) -> str:
    return '–' if math.isnan(value) else f'{100 * value:.2f}'


def print_exits(results: dict[str, ExitStatistics], console: Console) -> None:
    table = Table(title='Samples that leave at each exit')
    table.add_column('point')
    for name in ('exit', 'samples', 'share %', 'accuracy on its own samples %'):
        table.add_column(name, justify='right')
    for point, found in results.items():
        columns = zip(found.samples.sum(0), found.shares, found.accuracies)
        for exit, (samples, share, accuracy) in enumerate(columns, 1):
            table.add_row(
                point, str(exit), str(samples), percent(share), percent(accuracy)
            )
        total = str(found.samples.sum())
        table.add_row(
            point, 'all', total, percent(1), percent(found.accuracy), end_section=True
        )
    console.print(table)


def print_groups(results: dict[str, ExitStatistics], console: Console) -> None:
    table = Table(
        title='Classes by their share at exit 1', caption='Means over the classes.'
    )
    for name in ('point', 'classes with'):
        table.add_column(name)
    for name in ('classes', 'share at exit 1 %', 'accuracy %'):
        table.add_column(name, justify='right')
    for point, found in results.items():
        for group in class_groups(found):
            table.add_row(
                point,
                'most leaving at exit 1' if group.most else 'fewest leaving at exit 1',
                str(group.classes),
                percent(group.first_exit_share),
                percent(group.accuracy),
            )
        table.add_section()
    console.print(table)


def write_rows(
    results: dict[str, ExitStatistics], classes: list[str], path: Path
) -> None:
    """Write a row for each class at each point; empty cells where there is no sample."""
    exits = range(1, next(iter(results.values())).samples.shape[1] + 1)
    columns = ('samples', 'share_percent', 'accuracy_percent')
    with path.open('w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file)
        writer.writerow(
            ['point', 'class', 'name', 'samples', 'accuracy_percent']
            + [f'exit{exit}_{column}' for exit in exits for column in columns]
        )
        for point, found in results.items():
            for number, name in enumerate(classes):
                writer.writerow([point, number, name, *_class_cells(found, number)])


def _class_cells(found: ExitStatistics, number: int) -> list:
    cells = [found.samples[number].sum(), 100 * found.class_accuracies[number]]
    for samples, share, accuracy in zip(
        found.samples[number],
        found.class_shares[number],
        found.class_exit_accuracies[number],
    ):
        cells += [samples, 100 * share, 100 * accuracy]
    return ['' if math.isnan(cell) else cell for cell in cells]


def main() -> None:
    args = parse_args()
    try:
        runner = prepare_runner(args)
        names = choose_points(unwrapped(runner.model), args.point)
        results = evaluate(runner, names)
    except ValueError as error:
        sys.exit(str(error))
    if not is_main_process():
        return
    console = console_for_tables()
    print_exits(results, console)
    print_groups(results, console)

    folder = Path(runner.work_dir)
    table, picture = folder / 'exit_statistics.csv', folder / 'exit_statistics.png'
    classes = class_names(runner, unwrapped(runner.model).head.num_classes)
    write_rows(results, classes, table)
    draw_exit_shares(
        {point: found.class_shares for point, found in results.items()},
        {point: found.class_accuracies for point, found in results.items()},
        picture,
    )
    console.print('Written to', soft_wrap=True)
    for path in (table, picture):
        console.print(f'  {path}', soft_wrap=True)


if __name__ == '__main__':
    main()
