"""Draw what a segmentor, detector or classifier predicts at its operating points.

A row for each image, a column for each point, drawn by the visualizer of the config: a
detector's leaves out what scores below 0.3. Each prediction comes with the MACs that were
executed for this very image. Points that were searched for and saved beside the
checkpoint are among those offered.

example: python tools/visualization/predictions.py CONFIG CHECKPOINT \\
             --img street.jpg park.jpg --points exit=1 exit=2 --out predictions.png
"""

import argparse
import sys
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path

from mmdyn.utils.command_line import (
    add_device,
    add_points,
    check_files,
    check_folder_of,
    exit_on,
    tool_parser,
)


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__, 'config', 'checkpoint')
    parser.add_argument(
        '--img', required=True, nargs='+', metavar='FILE', help='image files'
    )
    add_points(parser, default='all that are trained')
    parser.add_argument(
        '--out',
        metavar='FILE',
        help='picture to write (default: <first image>_predictions.png, here)',
    )
    add_device(parser)
    args = parser.parse_args()
    check_files(parser, [args.checkpoint, *args.img])
    args.out = args.out or f'{Path(args.img[0]).stem}_predictions.png'
    check_folder_of(parser, '--out', args.out)
    return args


def print_costs(rows: list) -> None:
    from rich.table import Table

    from mmdyn.evaluation.tables import console_for_tables
    from mmdyn.visualization.predictions import cost_writer

    table = Table(title='Executed for each image')
    for name in ('image', 'point'):
        table.add_column(name)
    table.add_column('cost', justify='right')
    written = cost_writer(rows)
    for row in rows:
        for point, prediction in row.predictions.items():
            table.add_row(row.name, point, written(prediction.macs))
        table.add_section()
    console_for_tables().print(table)


def main() -> None:
    args = parse_args()

    from rich.console import Console
    from rich.progress import track

    from mmdyn.engine.build import read_config
    from mmdyn.engine.predictions import predict_files
    from mmdyn.engine.runner import require_settings
    from mmdyn.visualization.predictions import draw_predictions

    shown = partial(track, description='Predicting', console=Console(stderr=True))
    with exit_on(FileNotFoundError, ImportError, ValueError):
        with redirect_stdout(sys.stderr):  # where MMEngine's logs go
            cfg = read_config(args.config)
            user = 'drawing predictions needs'
            require_settings(cfg, user, 'visualizer', 'test_dataloader')
            files = (args.checkpoint, args.img, args.points, args.device)
            rows = predict_files(cfg, *files, track=shown)
        draw_predictions(rows, args.out)
    print_costs(rows)
    print('Written to', args.out)


if __name__ == '__main__':
    main()
