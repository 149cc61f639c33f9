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

from mmdyn.utils.command_line import add_runner_arguments, exit_on, tool_parser

TOP1 = 'accuracy/top1'


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__, 'config', 'checkpoint')
    parser.add_argument(
        '--max-macs',
        type=float,
        nargs='+',
        default=[],
        metavar='MACS',
        help='mean MACs per image: the best accuracy within them',
    )
    parser.add_argument(
        '--min-accuracy',
        type=float,
        nargs='+',
        default=[],
        metavar='PERCENT',
        help='top-1 accuracy to reach: the least cost at it',
    )
    add_runner_arguments(parser)
    args = parser.parse_args()
    if not args.max_macs and not args.min_accuracy:
        parser.error('give at least one --max-macs or --min-accuracy')
    if args.launcher != 'none':
        parser.error(f'the search runs in one process, got --launcher {args.launcher}')
    return args


def main() -> None:
    args = parse_args()

    from mmdyn.engine.runner import runner_for_search
    from mmdyn.engine.splits import split_loaders
    from mmdyn.evaluation.saved_points import save_operating_points

    with exit_on(ValueError):
        runner = runner_for_search(args)
        search_data, report_data = split_loaders(runner)
        found = search_points(runner.model, search_data, args)
        measured = measure_points(runner, found, report_data)
    print_points(found, measured)
    points = [result.point for result in found]
    file = save_operating_points(args.checkpoint, points, config=args.config)
    print(f'Written to\n  {file}')


def search_points(model, data, args: argparse.Namespace) -> list:
    """Search a point for each cost and each accuracy; what it is expected to have."""
    from mmdyn.evaluation.point_result import PointResult
    from mmdyn.methods.multi_exit.classifier import require_classifier
    from mmdyn.methods.multi_exit.exit_record import record_exits
    from mmdyn.methods.multi_exit.threshold_search import ThresholdSearch

    require_classifier(model, 'thresholds are those of')
    model.check_adaptive()
    search = ThresholdSearch(record_exits(model.eval(), data))
    wanted = {f'max-macs={m / 1e6:g}M': search.within(m) for m in args.max_macs}
    wanted |= {f'min-accuracy={a:g}': search.reaching(a) for a in args.min_accuracy}
    found = []
    for name, thresholds in wanted.items():
        accuracy, macs = search.at(thresholds)
        settings = dict(thresholds=list(thresholds))
        found.append(PointResult(name, {TOP1: accuracy}, macs, settings=settings))
    return found


def measure_points(runner, found: list, data) -> list:
    """Run the found points, which the model offers from now on, then the dense one."""
    from mmdyn.engine.loops import OperatingPointValLoop
    from mmdyn.operating_point import dense_operating_point

    model = runner.model
    model.offer_points([each.point for each in found])
    # Where the backbone has points too, the names of both are joined.
    dense = dense_operating_point(model).name
    rest = dense.removeprefix(model.dense_operating_point.name)
    names = [*(each.name + rest for each in found), dense]
    evaluator = runner.cfg.get('test_evaluator') or runner.cfg.val_evaluator
    fp16 = (runner.cfg.get('test_cfg') or {}).get('fp16', False)
    loop = OperatingPointValLoop(runner, data, evaluator, fp16, names)
    loop.run()
    return loop.results


def print_points(found: list, measured: list) -> None:
    """Print expected and measured accuracy and cost; the dense point comes last."""
    from mmdyn.evaluation.point_result import PointResult
    from mmdyn.evaluation.tables import Column, number_column, print_table

    dense = measured[-1]
    metric = TOP1 if TOP1 in dense.metrics else next(iter(dense.metrics))
    expected = [*found, PointResult(dense.name, {}, float('nan'))]
    thresholds = [
        ', '.join(f'{v:.4g}' for v in each.settings.get('thresholds', ()))
        for each in expected
    ]
    macs = [each.macs_per_image / 1e6 for each in measured]
    shares = [each / macs[-1] for each in macs]
    searched_macs = [each.macs_per_image / 1e6 for each in expected]
    columns = [
        Column('point', '', [each.name for each in expected]),
        Column('thresholds', '', thresholds, justify='right'),
        number_column('top-1, search', '', [each.score(TOP1) for each in expected], 2),
        number_column('MMACs, search', '', searched_macs, 2),
        number_column(metric, '', [each.score(metric) for each in measured], 2),
        number_column('MMACs', '', macs, 2),
        number_column('cost', '', shares, 3),
    ]
    caption = (
        'search: expected on the images of the search. The other columns: measured on '
        'images that the search has not seen'
    )
    print_table(columns, 'Thresholds', caption)


if __name__ == '__main__':
    main()
