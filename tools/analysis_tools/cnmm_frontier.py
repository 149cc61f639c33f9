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


def print_frontier(frontier) -> None:
    """Print the chosen points and the mean scores."""
    import numpy as np

    from mmdyn.evaluation.tables import Column, number_column, print_table

    chosen = frontier.chosen
    ((dense_macs, _),) = frontier.curve(frontier.exits[-1:])
    macs, scores = map(np.array, zip(*frontier.curve(chosen)))
    columns = [
        Column('point', 'point', [c.point.name for c in chosen]),
        number_column('functions', '', [c.functions for c in chosen], 0),
        number_column(frontier.metric, '', scores, 2),
        number_column('MMACs', '', macs, 2, unit=1e6),
        number_column('cost', '', macs / dense_macs, 3),
    ]
    print_table(columns, 'Points to offer')
    print('Mean of the best score over budgets up to the full cost:')
    for name, mean in frontier.mean_scores().items():
        print(f'  {name}: {mean:.2f}')


def write_frontier(frontier, folder: Path) -> list[Path]:
    """Write all candidates as ``cnmm_frontier.csv`` and draw them as ``.png``."""
    from mmdyn.evaluation.tables import Column, write_table
    from mmdyn.methods.cnmm.drawing import draw_frontier

    measured, curve = frontier.measured, frontier.curve
    macs, scores = zip(*curve(measured))
    columns = [
        Column('', 'point', [c.point.name for c in measured]),
        Column('', 'exit', [c.exit for c in measured]),
        Column('', 'functions', [c.functions for c in measured]),
        Column('', 'ranking', [c.ranking for c in measured]),
        Column('', 'macs_per_image', macs),
        Column('', frontier.metric, scores),
    ]
    table = write_table(columns, folder / 'cnmm_frontier.csv')
    picture = table.with_suffix('.png')
    pruned = {
        f'exit {exit}' if exit else 'all outputs': [c for c in measured if c.exit == exit]
        for exit in (whole.exit for whole in frontier.exits)
    }
    draw_frontier(
        pruned={name: curve(some) for name, some in pruned.items()},
        exits=curve(frontier.exits),
        envelopes={
            f'by {ranking}': frontier.envelope(frontier.of_ranking(ranking))
            for ranking in frontier.rankings
        },
        chosen=curve(frontier.chosen),
        path=picture,
        metric=frontier.metric,
    )
    return [table, picture]


def main() -> None:
    args = parse_args()

    from mmengine.dist import is_main_process

    from mmdyn.engine.loss_hook import unwrapped
    from mmdyn.engine.runner import runner_for_search
    from mmdyn.evaluation.saved_points import save_operating_points
    from mmdyn.methods.cnmm.frontier import Frontier, candidates, measure
    from mmdyn.methods.cnmm.graph import RANKINGS

    rankings = list(RANKINGS) if args.ranking == 'both' else [args.ranking]
    with exit_on(ValueError):
        runner = runner_for_search(args)
        tried = candidates(unwrapped(runner.model), rankings, args.levels)
        measured = measure(runner, tried)
        frontier = Frontier(measured, rankings, args.num_points, args.metric)
    if not is_main_process():
        return
    print_frontier(frontier)
    written = write_frontier(frontier, Path(runner.work_dir))
    points = [candidate.point for candidate in frontier.chosen]
    saved = save_operating_points(
        args.checkpoint, points, config=args.config, metric=frontier.metric
    )
    print('Written to', saved, *written, sep='\n  ')


if __name__ == '__main__':
    main()
