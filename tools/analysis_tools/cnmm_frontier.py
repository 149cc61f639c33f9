"""Search the operating points of a trained CNMM: which exit, how many functions.

Runs each exit at several levels of pruning on the validation data of the config, keeps
the upper envelope of score against executed MACs, and writes its points beside the
checkpoint, where tools/test.py finds them. No training.

example: python tools/analysis_tools/cnmm_frontier.py CONFIG CHECKPOINT --num-points 8
"""

import argparse
import warnings
from pathlib import Path

from mmdyn.utils.command_line import (
    add_runner_arguments,
    check_at_least,
    exit_on,
    tool_parser,
)


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = tool_parser(__doc__, 'config', 'checkpoint')
    parser.add_argument(
        '--levels',
        type=int,
        default=16,
        help='levels of pruning to try at each exit (default: 16)',
    )
    parser.add_argument(
        '--num-points',
        type=int,
        default=12,
        help='number of points to offer, at most (default: 12)',
    )
    parser.add_argument('--points', help=argparse.SUPPRESS)
    parser.add_argument(
        '--ranking',
        choices=['usage', 'mixing_weight', 'both'],
        default='both',
        help='importance by which functions are removed (default: both, compared)',
    )
    parser.add_argument(
        '--metric',
        help='metric to rank by, more being better (default: mIoU, or the first one)',
    )
    add_runner_arguments(parser)
    args = parser.parse_args(arguments)
    if args.points is not None:
        if not args.points.isdecimal():
            parser.error(f'--num-points takes a number of points, got {args.points!r}')
        message = f'--points {args.points} is now --num-points {args.points}'
        warnings.warn(message, FutureWarning, stacklevel=2)
        args.num_points = int(args.points)
    check_at_least(parser, args, levels=1, num_points=2)
    return args


def main() -> None:
    args = parse_args()

    from mmengine.dist import is_main_process

    from mmdyn.engine.loss_hook import unwrapped
    from mmdyn.engine.runner import runner_for_search
    from mmdyn.evaluation.saved_points import save_operating_points
    from mmdyn.methods.cnmm.frontier import candidates
    from mmdyn.methods.cnmm.frontier_report import Frontier, measure
    from mmdyn.methods.cnmm.pruning import RANKINGS

    rankings = list(RANKINGS) if args.ranking == 'both' else [args.ranking]
    with exit_on(ValueError):
        runner = runner_for_search(args)
        tried = candidates(unwrapped(runner.model), rankings, args.levels)
        measured = measure(runner, tried)
        frontier = Frontier(measured, rankings, args.num_points, args.metric)
    if not is_main_process():
        return
    frontier.print()
    written = frontier.write(Path(runner.work_dir))
    points = save_operating_points(
        args.checkpoint, frontier.points, config=args.config, metric=frontier.metric
    )
    print('Written to', points, *written, sep='\n  ')


if __name__ == '__main__':
    main()
