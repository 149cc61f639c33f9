"""Search the confidence thresholds of a trained multi-exit classifier for budgets.

Runs every exit once on the validation data of the config, finds the thresholds of the
best accuracy within each cost and of the least cost at each accuracy, runs these for real
on the test data, and writes them beside the checkpoint, where tools/test.py finds them.
Where the test data are the validation data, it searches on every other image and reports
on the rest.

example: python tools/analysis_tools/search_thresholds.py CONFIG CHECKPOINT \\
             --max-macs 15e6 20e6 --min-accuracy 98
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass

from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from rich.table import Table
from torch.utils.data import DataLoader

from mmdyn import OperatingPoint, dense_operating_point
from mmdyn.engine import OperatingPointValLoop
from mmdyn.engine.launch import add_launch_arguments, runner_for_search
from mmdyn.evaluation.report import console_for_tables
from mmdyn.evaluation.saved_points import save_operating_points
from mmdyn.evaluation.threshold_search import ThresholdSearch, record_exits
from mmdyn.models.multi_exit import MultiExitClassifier


@dataclass(frozen=True)
class Found:
    """An operating point and what the search expects of it."""

    point: OperatingPoint
    accuracy: float
    macs: float


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--max-macs',
        type=float,
        nargs='+',
        default=[],
        metavar='MACS',
        help='mean MACs an image may cost: the best accuracy within them',
    )
    parser.add_argument(
        '--min-accuracy',
        type=float,
        nargs='+',
        default=[],
        metavar='PERCENT',
        help='top-1 accuracy to reach: the least cost at it',
    )
    add_launch_arguments(parser)
    args = parser.parse_args()
    if not args.max_macs and not args.min_accuracy:
        parser.error('give at least one --max-macs or --min-accuracy')
    if args.launcher != 'none':
        parser.error(f'the search runs in one process, got --launcher {args.launcher}')
    return args


def load_data(runner: Runner) -> tuple[DataLoader, DataLoader]:
    """Dataloaders to search on and to report on, with no image in both."""
    search_cfg, report_cfg = runner.cfg.val_dataloader, runner.cfg.get('test_dataloader')
    if report_cfg is None:
        report_cfg = search_cfg
    if search_cfg.dataset != report_cfg.dataset:
        return Runner.build_dataloader(search_cfg), Runner.build_dataloader(report_cfg)
    runner.logger.warning(
        'The test data are the validation data: searching on every other image of them, '
        'reporting on the rest'
    )
    return _half(search_cfg, 0), _half(report_cfg, 1)


def _half(cfg: dict, first: int) -> DataLoader:
    dataset = DATASETS.build(cfg.dataset)
    if not isinstance(dataset, BaseDataset):
        raise ValueError(
            f'a {type(dataset).__name__} cannot be cut into halves: give val_dataloader '
            f'and test_dataloader different datasets'
        )
    dataset.full_init()
    dataset.get_subset_(list(range(first, len(dataset), 2)))
    return Runner.build_dataloader({**cfg, 'dataset': dataset})


def search(model: MultiExitClassifier, data: DataLoader, args) -> list[Found]:
    thresholds = ThresholdSearch(record_exits(model.eval(), data))
    wanted = [
        (f'max-macs={budget / 1e6:g}M', thresholds.within(budget))
        for budget in args.max_macs
    ]
    wanted += [
        (f'min-accuracy={accuracy:g}', thresholds.reaching(accuracy))
        for accuracy in args.min_accuracy
    ]
    return [
        Found(OperatingPoint(name, dict(thresholds=list(values))), *thresholds.at(values))
        for name, values in wanted
    ]


def execute(runner: Runner, found: list[Found], data: DataLoader) -> dict:
    """Metrics of the found points and of the dense one, really run."""
    model = runner.model
    model.offer_points([each.point for each in found])
    names = [each.point.name for each in found] + [dense_operating_point(model).name]
    evaluator = runner.cfg.get('test_evaluator') or runner.cfg.val_evaluator
    return OperatingPointValLoop(runner, data, evaluator, points=names).run()


def print_points(found: list[Found], metrics: dict, dense: str, metric: str) -> None:
    table = Table(title='Thresholds')
    table.add_column('point')
    for name in ('thresholds', 'top-1, search', 'MMACs, search', metric, 'MMACs', 'cost'):
        table.add_column(name, justify='right')

    def measured(name: str) -> list[str]:
        macs = metrics[f'{name}/macs_per_image']
        return [
            f'{metrics[f"{name}/{metric}"]:.2f}',
            f'{macs / 1e6:.2f}',
            f'{macs / metrics[f"{dense}/macs_per_image"]:.3f}',
        ]

    for each in found:
        name = each.point.name
        values = ', '.join(f'{v:.3f}' for v in each.point.settings['thresholds'])
        table.add_row(
            name,
            values,
            f'{each.accuracy:.2f}',
            f'{each.macs / 1e6:.2f}',
            *measured(name),
        )
    table.add_row(dense, '', '', '', *measured(dense))
    table.caption = (
        'search: what the thresholds were chosen by. The other columns: run for real, on '
        'images that the search has not seen'
    )
    console_for_tables().print(table)


def main() -> None:
    args = parse_args()
    try:
        runner = runner_for_search(args)
        model = runner.model
        if not isinstance(model, MultiExitClassifier):
            raise ValueError(
                f'thresholds are those of an mmdyn.MultiExitClassifier, got a '
                f'{type(model).__name__}'
            )
        search_data, report_data = load_data(runner)
        found = search(model, search_data, args)
    except ValueError as error:
        sys.exit(str(error))
    metrics = execute(runner, found, report_data)
    dense = dense_operating_point(model).name
    names = [key.split('/', 1)[1] for key in metrics if key.startswith(f'{dense}/')]
    metric = 'accuracy/top1' if 'accuracy/top1' in names else names[0]
    print_points(found, metrics, dense, metric)
    points = [each.point for each in found]
    file = save_operating_points(args.checkpoint, points, config=args.config)
    print(f'Written to\n  {file}')


if __name__ == '__main__':
    main()
