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

    from mmdyn.methods.multi_exit.consistency_study import (
        ConsistencyStudy,
        run_seed,
        study_config,
    )

    with exit_on(ValueError, FileNotFoundError):
        cfg = study_config(args)
        folder = Path(cfg.work_dir)
        results = [run_seed(cfg, seed, folder) for seed in range(args.seeds)]
    if is_main_process():
        study = ConsistencyStudy(results)
        print_study(study)
        print('Written to', *write_study(study, folder), sep='\n  ')


def print_study(study) -> None:
    from mmdyn.evaluation.tables import Column, number_column, print_table

    means = [
        f'{mean:.2f}' if deviation is None else f'{mean:.2f} ± {deviation:.2f}'
        for mean, deviation in zip(study.means, study.deviations)
    ]
    columns = [
        number_column('stage', '', study.stages, 0),
        number_column('N', '', study.layers, 0),
        Column(study.metric, '', means, justify='right'),
        number_column('baseline', '', [study.baseline] * len(means), 2),
    ]
    caption = (
        f'{study.metric} of the plain network with reconstructed features, mean ± '
        f'standard deviation over {study.scores.shape[1]} seeds; baseline: with its own.'
    )
    print_table(columns, 'Knowledge consistency', caption)


def write_study(study, folder: Path) -> list[Path]:
    """Write ``knowledge_consistency.csv`` and ``.png``."""
    from mmdyn.evaluation.tables import Column, write_table

    columns = {
        'stage': study.stages,
        'layers': study.layers,
        f'{study.metric}_mean': study.means,
        f'{study.metric}_std': study.deviations,
        'baseline': [study.baseline] * len(study.means),
    }
    columns |= {f'seed_{seed}': each for seed, each in enumerate(study.scores.T)}
    columns = [Column('', key, values) for key, values in columns.items()]
    table = write_table(columns, folder / 'knowledge_consistency.csv')
    picture = table.with_suffix('.png')
    study.draw(picture)
    return [table, picture]


if __name__ == '__main__':
    main()
