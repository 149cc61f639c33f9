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
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial
from itertools import product
from pathlib import Path

from mmdyn.utils.command_line import (
    add_device,
    add_points,
    check_files,
    check_folder_of,
    exit_on,
    tool_parser,
)

READABLE = 224  # pixels: on shorter sides mmpretrain's text cannot be read


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


def predict_files(cfg, args: argparse.Namespace, track: Callable) -> list:
    """A Row for each image file, with a Prediction at each operating point.

    Raises:
        ValueError: If a file is not an image, the weights do not fit or the model does
            not offer a point.
    """
    import torch

    from mmdyn import at_operating_point, load_operating_points
    from mmdyn.engine.build import build_model, prepared, read_image
    from mmdyn.evaluation.cost import CostMeter
    from mmdyn.operating_point import find_operating_points, trained_operating_points
    from mmdyn.utils.checkpoints import load_checkpoint_strictly
    from mmdyn.visualization.predictions import Prediction, Row

    rows = [Row(Path(file).name, read_image(file), {}) for file in args.img]
    model = build_model(cfg).to(args.device)
    weights = load_checkpoint_strictly(model, args.checkpoint)
    load_operating_points(model, args.checkpoint)
    points = trained_operating_points(model)
    if args.points is not None:
        points = find_operating_points(model, dict.fromkeys(args.points))
    visualizer = build_visualizer(cfg, weights.get('meta', {}).get('dataset_meta') or {})
    for (row, file), point in track(list(product(zip(rows, args.img), points))):
        meter = CostMeter()
        with torch.no_grad(), at_operating_point(model, point), meter:
            (sample,) = model.test_step(prepared(cfg, file))
        picture = drawn(visualizer, row.image, sample)
        row.predictions[point.name] = Prediction(picture, meter.macs)
    return rows


def build_visualizer(cfg, meta: dict):
    """The config's visualizer, with names and colours of the classes.

    They come from the ``meta`` of the checkpoint, or else from the test dataset, whose
    files are not read.
    """
    from mmengine.registry import DATASETS, VISUALIZERS

    settings = {'name': 'predictions', **cfg.visualizer}
    settings.pop('vis_backends', None)  # save and upload nothing
    visualizer = VISUALIZERS.build(settings)
    if 'classes' not in meta:
        dataset = {**cfg.test_dataloader.dataset, 'lazy_init': True}
        meta = DATASETS.build(dataset).metainfo
    visualizer.dataset_meta = meta
    return visualizer


def drawn(visualizer, image, sample):
    """The image (H, W, 3) with a prediction drawn on it."""
    if not hasattr(visualizer, 'visualize_cls'):
        visualizer.add_datasample('', image, sample, draw_gt=False, show=False)
        return visualizer.get_image()
    import mmcv

    enlargement = -(-READABLE // min(image.shape[:2]))
    pixels = mmcv.imrescale(image, enlargement, interpolation='nearest')
    style = dict(wrap=True)  # names of ImageNet's classes are long
    return visualizer.visualize_cls(pixels, sample, draw_gt=False, text_cfg=style)


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
    from mmdyn.engine.runner import require_settings
    from mmdyn.visualization.predictions import draw_predictions

    shown = partial(track, description='Predicting', console=Console(stderr=True))
    with exit_on(FileNotFoundError, ImportError, ValueError):
        with redirect_stdout(sys.stderr):  # where MMEngine's logs go
            cfg = read_config(args.config)
            user = 'drawing predictions needs'
            require_settings(cfg, user, 'visualizer', 'test_dataloader')
            rows = predict_files(cfg, args, shown)
        draw_predictions(rows, args.out)
    print_costs(rows)
    print('Written to', args.out)


if __name__ == '__main__':
    main()
