"""Measure how much exits disrupt a backbone, by its knowledge consistency.

Reconstructs the features of a plain network from those of a multi-exit network, behind
each stage but the last and with growing numbers N of non-linear layers, and lets the rest
of the plain network classify them (Lin et al., sections IV-C and V-G, Figs. 12 and 13).
Trains on the training data of CONFIG with the paper's schedule, tests on its test data,
once for each seed. Prints a table and writes knowledge_consistency.csv and .png in the
work directory.

example: python tools/analysis_tools/knowledge_consistency.py CONFIG CHECKPOINT
BASELINE_CONFIG BASELINE_CHECKPOINT --seeds 3
"""

import argparse
from pathlib import Path

from mmdyn.utils.command_line import (
    add_runner_arguments,
    check_at_least,
    exit_on,
    tool_parser,
)


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__)
    parser.add_argument('config', help='config file of the multi-exit network')
    parser.add_argument('checkpoint', help='its checkpoint file')
    parser.add_argument(
        'baseline_config',
        help='config file of the plain network, or PACKAGE::FILE for one of an '
        'installed package',
    )
    parser.add_argument('baseline_checkpoint', help='its checkpoint file')
    parser.add_argument(
        '--epochs', type=int, default=10, help='epochs of training (default: 10)'
    )
    parser.add_argument(
        '--layers',
        type=int,
        nargs='+',
        default=[0, 1, 2, 3],
        metavar='N',
        help='numbers of non-linear layers to compare (default: 0 1 2 3)',
    )
    parser.add_argument(
        '--seeds', type=int, default=3, help='number of trainings (default: 3)'
    )
    add_runner_arguments(parser)
    args = parser.parse_args()
    check_at_least(parser, args, epochs=1, seeds=1)
    return args


def main() -> None:
    args = parse_args()

    from mmengine.dist import is_main_process

    from mmdyn.engine.build import read_config
    from mmdyn.engine.runner import load_config
    from mmdyn.methods.multi_exit.consistency_study import (
        ConsistencyStudy,
        run_seed,
        study_config,
    )

    scores = []
    with exit_on(ValueError, FileNotFoundError):
        cfg = study_config(
            load_config(args),
            args.checkpoint,
            read_config(args.baseline_config),
            args.baseline_checkpoint,
            args.layers,
            args.epochs,
        )
        folder = Path(cfg.work_dir)
        for seed in range(args.seeds):
            metric, of_seed = run_seed(cfg, seed, folder)
            scores.append(of_seed)
    if is_main_process():
        study = ConsistencyStudy(scores, args.layers, metric)
        study.print()
        print('Written to', *study.write(folder), sep='\n  ')


if __name__ == '__main__':
    main()
