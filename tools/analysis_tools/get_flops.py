"""Count the parameters of a model and its MACs at each operating point.

example: python tools/analysis_tools/get_flops.py CONFIG --shape 224 224
"""

from __future__ import annotations

import argparse

from mmengine.config import Config, DictAction
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from rich.console import Console
from rich.table import Table
from torch import nn

from mmdyn import (
    at_operating_point,
    count_macs,
    dense_operating_point,
    operating_points,
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--shape',
        type=int,
        nargs='+',
        default=[224, 224],
        help='height and width of the image in pixels, or one number for both '
        '(default: 224 224)',
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, help='override settings'
    )
    args = parser.parse_args()
    if len(args.shape) > 2 or min(args.shape) < 1:
        parser.error(f'--shape takes one or two positive numbers, got {args.shape}')
    return args


def build_model(cfg: Config) -> nn.Module:
    """Build the config's model, without looking for its pretrained weights."""
    init_default_scope(cfg.get('default_scope') or 'mmpretrain')
    return revert_sync_batchnorm(MODELS.build(cfg.model)).eval()


def image_channels(model: nn.Module) -> int:
    """Channels of the images that the model's first convolution takes."""
    first = next(m for m in model.modules() if isinstance(m, nn.Conv2d))
    return first.in_channels


def forward_arguments(cfg: Config, height: int, width: int) -> dict:
    """What the model needs beside the image: detectors ask for its sizes."""
    if cfg.get('default_scope') != 'mmdet':
        return {}
    from mmdet.structures import DetDataSample

    size = (height, width)
    sample = DetDataSample(
        metainfo=dict(
            img_shape=size,
            ori_shape=size,
            pad_shape=size,
            batch_input_shape=size,
            scale_factor=(1.0, 1.0),
        )
    )
    return dict(data_samples=[sample])


def main() -> None:
    args = parse_args()
    cfg = Config.fromfile(args.config)
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    model = build_model(cfg)
    height, width = args.shape[0], args.shape[-1]
    shape = (image_channels(model), height, width)
    arguments = forward_arguments(cfg, height, width)

    def macs(point) -> int:
        with at_operating_point(model, point):
            return count_macs(model, shape, **arguments)

    dense = dense_operating_point(model)
    dense_macs = macs(dense)
    parameters = sum(p.numel() for p in model.parameters())
    table = Table(
        title=f'{args.config}: {parameters / 1e6:.2f} M parameters, images {shape}',
        caption=f'cost: share of the MACs at {dense}, where nothing is skipped. Where '
        f'the MACs depend on the image, they are those of one random image: '
        f'tools/test.py measures their mean.',
    )
    table.add_column('point')
    for name in ('MMACs', 'cost'):
        table.add_column(name, justify='right')
    for point in operating_points(model):
        count = macs(point)
        table.add_row(point.name, f'{count / 1e6:.2f}', f'{count / dense_macs:.3f}')
    Console().print(table)


if __name__ == '__main__':
    main()
