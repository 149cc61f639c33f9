"""Count the parameters of a model and its MACs at each operating point.

example: python tools/analysis_tools/get_flops.py CONFIG --shape 224 224
"""

import argparse

from mmengine.config import DictAction
from rich.console import Console
from rich.table import Table

from mmdyn import (
    at_operating_point,
    count_macs,
    dense_operating_point,
    operating_points,
)
from mmdyn.engine.build import (
    add_shape_argument,
    build_model,
    check_shape,
    forward_arguments,
    image_channels,
    read_config,
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    add_shape_argument(parser)
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, help='override settings'
    )
    args = parser.parse_args()
    args.shape = check_shape(parser, args.shape)
    return args


def main() -> None:
    args = parse_args()
    cfg = read_config(args.config)
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    model = build_model(cfg)
    height, width = args.shape
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
