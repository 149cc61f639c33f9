"""Search the confidence thresholds of a trained multi-exit classifier for budgets.

Runs every exit once on the validation data of the config, finds the thresholds of the
best accuracy within each cost and of the least cost at each accuracy, runs these for real
on the test data, and writes them beside the checkpoint, in the place of points found
before, where tools/test.py finds them. Of images that are both validation and test data
it searches on every other one, and reports on the rest.

example: python tools/analysis_tools/search_thresholds.py CONFIG CHECKPOINT \\
             --max-macs 15e6 20e6 --min-accuracy 98
"""

import argparse
import sys
from dataclasses import dataclass

from mmengine.runner import Runner
from rich.table import Table
from torch.utils.data import DataLoader

from mmdyn import OperatingPoint, dense_operating_point
from mmdyn.engine.loops import OperatingPointValLoop
from mmdyn.engine.runner import add_launch_arguments, runner_for_search
from mmdyn.engine.splits import split_loaders
from mmdyn.evaluation.report import console_for_tables
from mmdyn.evaluation.saved_points import save_operating_points
from mmdyn.methods.multi_exit.classifier import MultiExitClassifier
from mmdyn.methods.multi_exit.threshold_search import ThresholdSearch, record_exits


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
        for name, values in dict(wanted).items()
    ]


def execute(
    runner: Runner, found: list[Found], data: DataLoader
) -> dict[str, dict[str, float]]:
    """Metrics of the found points and of the ``dense`` one, really run."""
    model = runner.model
    model.offer_points([each.point for each in found])
    # Where the backbone has points too, the names of both are joined.
    dense, own_dense = dense_operating_point(model).name, model.dense_operating_point.name
    rest = dense.removeprefix(own_dense)
    names = {each.point.name: each.point.name + rest for each in found}
    names['dense'] = dense
    evaluator = runner.cfg.get('test_evaluator') or runner.cfg.val_evaluator
    fp16 = (runner.cfg.get('test_cfg') or {}).get('fp16', False)
    loop = OperatingPointValLoop(runner, data, evaluator, fp16, [*names.values()])
    metrics = loop.run()
    return {
        name: {
            key.removeprefix(f'{offered}/'): value
            for key, value in metrics.items()
            if key.startswith(f'{offered}/')
        }
        for name, offered in names.items()
    }


def print_points(found: list[Found], metrics: dict[str, dict], dense: str) -> None:
    names = list(metrics['dense'])
    metric = 'accuracy/top1' if 'accuracy/top1' in names else names[0]
    table = Table(title='Thresholds')
    table.add_column('point')
    for name in ('thresholds', 'top-1, search', 'MMACs, search', metric, 'MMACs', 'cost'):
        table.add_column(name, justify='right')

    def measured(name: str) -> list[str]:
        macs = metrics[name]['macs_per_image']
        return [
            f'{metrics[name][metric]:.2f}',
            f'{macs / 1e6:.2f}',
            f'{macs / metrics["dense"]["macs_per_image"]:.3f}',
        ]

    for each in found:
        name = each.point.name
        values = ', '.join(f'{v:.4g}' for v in each.point.settings['thresholds'])
        expected = f'{each.accuracy:.2f}', f'{each.macs / 1e6:.2f}'
        table.add_row(name, values, *expected, *measured(name))
    table.add_row(dense, '', '', '', *measured('dense'))
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
        model.check_adaptive()
        search_data, report_data = split_loaders(runner)
        found = search(model, search_data, args)
        metrics = execute(runner, found, report_data)
    except ValueError as error:
        sys.exit(str(error))
    print_points(found, metrics, dense_operating_point(model).name)
    file = save_operating_points(
        args.checkpoint, [each.point for each in found], config=args.config
    )
    print(f'Written to\n  {file}')


if __name__ == '__main__':
    main()
