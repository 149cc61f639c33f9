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
    from mmdyn.methods.multi_exit.threshold_report import (
        measure_points,
        print_points,
        search_points,
    )

    with exit_on(ValueError):
        runner = runner_for_search(args)
        search_data, report_data = split_loaders(runner)
        found = search_points(runner.model, search_data, args.max_macs, args.min_accuracy)
        measured = measure_points(runner, found, report_data)
    print_points(found, measured)
    points = [result.point for result in found]
    file = save_operating_points(args.checkpoint, points, config=args.config)
    print(f'Written to\n  {file}')


if __name__ == '__main__':
    main()
