"""Count the parameters of a model and its MACs at each operating point.

example: python tools/analysis_tools/get_flops.py CONFIG --shape 224 224
"""

import argparse

from mmdyn.utils.command_line import (
    add_cfg_options,
    add_shape,
    checked_shape,
    tool_parser,
)


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__, 'config')
    add_shape(parser)
    add_cfg_options(parser)
    args = parser.parse_args()
    args.shape = checked_shape(parser, args.shape)
    return args


def main() -> None:
    args = parse_args()

    from rich.console import Console
    from rich.table import Table

    from mmdyn import (
        at_operating_point,
        count_macs,
        dense_operating_point,
        operating_points,
    )
    from mmdyn.engine.build import (
        build_model,
        forward_arguments,
        image_channels,
        read_config,
    )
    from mmdyn.engine.runner import merge_cfg_options

    cfg = read_config(args.config)
    merge_cfg_options(cfg, args.cfg_options)
    model = build_model(cfg)
    shape = (image_channels(model), *args.shape)
    macs = {}
    for point in operating_points(model):
        with at_operating_point(model, point):
            macs[point] = count_macs(model, shape, **forward_arguments(cfg, *args.shape))
    dense = dense_operating_point(model)
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
    for point, count in macs.items():
        cost = f'{count / macs[dense]:.3f}'
        table.add_row(point.name, f'{count / 1e6:.2f}', cost)
    Console().print(table)


if __name__ == '__main__':
    main()
