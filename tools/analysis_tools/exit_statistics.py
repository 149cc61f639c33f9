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
    from mmdyn.engine.runner import load_config, refuse_empty_dataset
    from mmdyn.methods.multi_exit import exit_report

    with exit_on(ValueError):
        runner = exit_report.statistics_runner(load_config(args), args.checkpoint)
        refuse_empty_dataset(runner, 'test_dataloader')
        model = unwrapped(runner.model)
        names = exit_report.choose_points(model, args.points)
        results = exit_report.measure_exits(runner, names)
    if is_main_process():
        exit_report.print_exits(results)
        classes = exit_report.class_names(runner, model.num_classes)
        written = exit_report.write_exits(results, classes, Path(runner.work_dir))
        print('Written to', *written, sep='\n  ')


if __name__ == '__main__':
    main()
