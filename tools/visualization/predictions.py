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
from itertools import product
from pathlib import Path

import mmcv
import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, VISUALIZERS
from mmengine.runner.checkpoint import CheckpointLoader
from mmengine.structures import BaseDataElement
from mmengine.visualization import Visualizer
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import nn

from mmdyn import (
    CostMeter,
    OperatingPoint,
    at_operating_point,
    load_operating_points,
)
from mmdyn.engine.build import build_model, prepared, read_config, read_image
from mmdyn.evaluation.report import console_for_tables
from mmdyn.operating_point import find_operating_points, trained_operating_points
from mmdyn.utils.checkpoints import load_weights_strictly
from mmdyn.visualization.predictions import (
    Prediction,
    Row,
    cost_writer,
    draw_predictions,
)

READABLE = 224  # pixels: on shorter sides mmpretrain's text cannot be read


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='weights')
    parser.add_argument(
        '--img', required=True, nargs='+', metavar='FILE', help='image files'
    )
    parser.add_argument(
        '--points',
        nargs='+',
        metavar='POINT',
        help='operating points to draw (default: all that are trained)',
    )
    parser.add_argument(
        '--out',
        metavar='FILE',
        help='picture to write (default: <first image>_predictions.png, here)',
    )
    parser.add_argument('--device', default='cpu', help='for example cuda (default: cpu)')
    args = parser.parse_args()
    for file in (args.checkpoint, *args.img):
        if not Path(file).is_file():
            parser.error(f'there is no file {file}')
    args.out = args.out or f'{Path(args.img[0]).stem}_predictions.png'
    if not Path(args.out).parent.is_dir():
        parser.error(f'--out {args.out}: there is no such folder')
    return args


def read_complete_config(path: str) -> Config:
    """Read a config; a ``ValueError`` says what of it this tool misses."""
    cfg = read_config(path)
    missing = [n for n in ('visualizer', 'test_dataloader') if cfg.get(n) is None]
    if missing:
        raise ValueError(f'drawing predictions needs {", ".join(missing)} in {path}')
    return cfg


def chosen_points(model: nn.Module, names: list[str] | None) -> list[OperatingPoint]:
    """The points of some names; without names all that are trained."""
    if names is not None:
        return find_operating_points(model, dict.fromkeys(names))
    return list(trained_operating_points(model))


def build_visualizer(cfg: Config, checkpoint: dict) -> Visualizer:
    """The visualizer of the config, with names and colours of the classes."""
    settings = {'name': 'predictions', **cfg.visualizer}
    settings.pop('vis_backends', None)  # nothing is to be saved, nor uploaded
    visualizer = VISUALIZERS.build(settings)
    visualizer.dataset_meta = dataset_meta(cfg, checkpoint)
    return visualizer


def dataset_meta(cfg: Config, checkpoint: dict) -> dict:
    """What the training data says of the classes, or else the test data.

    Trained checkpoints know it, also where only the folders of a dataset do. Lazily built
    datasets look at no files.
    """
    meta = checkpoint.get('meta', {}).get('dataset_meta') or {}
    if 'classes' in meta:
        return meta
    return DATASETS.build({**cfg.test_dataloader.dataset, 'lazy_init': True}).metainfo


@torch.no_grad()
def predict(
    model: nn.Module, batch: dict, point: OperatingPoint
) -> tuple[BaseDataElement, int]:
    """What is predicted for a batch of one image at a point, and its MACs."""
    meter = CostMeter()
    with at_operating_point(model, point), meter:
        (sample,) = model.test_step(batch)
    return sample, meter.macs


def drawn(
    visualizer: Visualizer, image: np.ndarray, sample: BaseDataElement
) -> np.ndarray:
    """The image (H, W, 3) with a prediction on it, as the visualizer draws it."""
    if hasattr(visualizer, 'visualize_cls'):  # mmpretrain's has no add_datasample
        enlargement = -(-READABLE // min(image.shape[:2]))
        pixels = mmcv.imrescale(image, enlargement, interpolation='nearest')
        style = dict(wrap=True)  # names of ImageNet's classes are long
        return visualizer.visualize_cls(pixels, sample, draw_gt=False, text_cfg=style)
    visualizer.add_datasample('', image, sample, draw_gt=False, show=False)
    return visualizer.get_image()


def predict_all(args: argparse.Namespace) -> list[Row]:
    """What the model predicts for each image at each point."""
    cfg = read_complete_config(args.config)
    rows = [Row(Path(file).name, read_image(file), {}) for file in args.img]
    model = build_model(cfg).to(args.device)
    checkpoint = CheckpointLoader.load_checkpoint(args.checkpoint, map_location='cpu')
    load_weights_strictly(model, checkpoint)
    load_operating_points(model, args.checkpoint)
    points = chosen_points(model, args.points)
    visualizer = build_visualizer(cfg, checkpoint)
    runs = list(product(zip(rows, args.img), points))
    for (row, file), point in track(runs, 'Predicting', console=Console(stderr=True)):
        sample, macs = predict(model, prepared(cfg, file), point)
        picture = drawn(visualizer, row.image, sample)
        row.predictions[point.name] = Prediction(picture, macs)
    return rows


def print_costs(rows: list[Row]) -> None:
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
    try:
        with redirect_stdout(sys.stderr):  # where MMEngine's logs go
            rows = predict_all(args)
        draw_predictions(rows, args.out)
    except (FileNotFoundError, ImportError, ValueError) as error:
        sys.exit(str(error))
    print_costs(rows)
    print('Written to', args.out)


if __name__ == '__main__':
    main()
