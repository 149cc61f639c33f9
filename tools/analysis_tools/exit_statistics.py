"""Show which exits of a classifier samples take, and how often it is right there.

Runs the test data of the config at operating points at which samples take different
exits. Prints the share of the samples and the accuracy on them for each exit, and the
accuracy of classes that exit early beside those that exit late (Lin et al., Figs. 5, 9
and 10); writes exit_statistics.csv, a row for each class, and exit_statistics.png in the
work directory. Points that were searched for and saved beside the checkpoint are among
those offered.

example: python tools/analysis_tools/exit_statistics.py CONFIG CHECKPOINT --points quick
"""

import argparse
import math
from pathlib import Path

from mmdyn.utils.command_line import (
    add_points,
    add_runner_arguments,
    exit_on,
    tool_parser,
)


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__, 'config', 'checkpoint')
    add_points(parser, default='all at which samples take different exits')
    parser.add_argument('--point', nargs='+', dest='points', help=argparse.SUPPRESS)
    add_runner_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()

    from mmengine.dist import is_main_process

    from mmdyn.engine.loss_hook import unwrapped
    from mmdyn.engine.runner import build_runner, load_config, require_settings
    from mmdyn.evaluation.saved_points import load_operating_points
    from mmdyn.methods.multi_exit.classifier import require_classifier
    from mmdyn.methods.multi_exit.exit_statistics import measure_exits

    user = 'exit statistics need'
    with exit_on(ValueError):
        cfg = load_config(args)
        require_settings(cfg, user, 'test_dataloader', 'test_evaluator')
        cfg.load_from = args.checkpoint
        cfg.test_cfg = dict(type='TestLoop')  # one pass, at the point that is active
        runner = build_runner(cfg, 'test_dataloader')
        model = unwrapped(runner.model)
        require_classifier(model, user)
        load_operating_points(model, args.checkpoint)
        results = measure_exits(runner, choose_points(model, args.points))
    if is_main_process():
        print_exits(results)
        metainfo = getattr(runner.test_dataloader.dataset, 'metainfo', {})
        classes = metainfo.get('classes') or ()
        if len(classes) != model.num_classes:
            classes = range(model.num_classes)
        written = write_exits(results, classes, Path(runner.work_dir))
        print('Written to', *written, sep='\n  ')


def choose_points(model, names: list[str] | None) -> list[str]:
    """Names of the points to run at; ``None``: all at which samples choose an exit."""
    from mmdyn.operating_point import find_operating_points, operating_points

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


def print_exits(results: dict) -> None:
    """Print share and accuracy of each exit, and those of groups of classes."""
    from mmdyn.methods.multi_exit.exit_statistics import class_groups

    exits, groups = [], []
    for point, found in results.items():
        columns = zip(found.samples.sum(0), 100 * found.shares, 100 * found.accuracies)
        exits += [(point, str(exit), *cells) for exit, cells in enumerate(columns, 1)]
        exits.append((point, 'all', found.samples.sum(), 100, 100 * found.accuracy))
        for most, classes, *means in class_groups(found):
            which = 'most at exit 1' if most else 'fewest at exit 1'
            groups.append((point, which, classes, *(100 * mean for mean in means)))
    titles = ('point', 'exit', 'samples', 'share %', 'accuracy on its own samples %')
    print_rows(exits, titles, 'Samples that take each exit')
    titles = ('point', 'classes with', 'classes', 'share at exit 1 %', 'accuracy %')
    title = 'Classes by their share at exit 1'
    print_rows(groups, titles, title, 'Means over the classes.')


def print_rows(rows: list[tuple], titles: tuple, title: str, caption: str = '') -> None:
    """Print rows of two texts, a count and two percentages."""
    from mmdyn.evaluation.tables import Column, number_column, print_table

    *texts, counts, shares, accuracies = zip(*rows)
    columns = [
        *(Column(name, '', text) for name, text in zip(titles, texts)),
        number_column(titles[2], '', counts, 0),
        number_column(titles[3], '', shares, 2),
        number_column(titles[4], '', accuracies, 2),
    ]
    print_table(columns, title, caption)


def write_exits(results: dict, classes: list, folder: Path) -> list[Path]:
    """Write ``exit_statistics.csv``, a row for each class at each point, and ``.png``."""
    from mmdyn.evaluation.tables import Column, write_table
    from mmdyn.methods.multi_exit.exit_shares import draw_exit_shares

    keys, rows = ['point', 'class', 'name', 'samples', 'accuracy_percent'], []
    for point, found in results.items():
        shares, accuracies = found.class_shares, found.class_exit_accuracies
        for number, name in enumerate(classes):
            samples = found.samples[number]
            cells = [samples.sum(), 100 * found.class_accuracies[number]]
            for of_exit in zip(samples, 100 * shares[number], 100 * accuracies[number]):
                cells += of_exit
            cells = ['' if math.isnan(cell) else cell for cell in cells]
            rows.append((point, number, name, *cells))
    for exit in range(1, found.samples.shape[1] + 1):
        of_exit = ('samples', 'share_percent', 'accuracy_percent')
        keys += [f'exit{exit}_{key}' for key in of_exit]
    columns = [Column('', key, values) for key, values in zip(keys, zip(*rows))]
    table = write_table(columns, folder / 'exit_statistics.csv')
    picture = table.with_suffix('.png')
    shares = {point: found.class_shares for point, found in results.items()}
    accuracies = {point: found.class_accuracies for point, found in results.items()}
    draw_exit_shares(shares, accuracies, picture)
    return [table, picture]


if __name__ == '__main__':
    main()
