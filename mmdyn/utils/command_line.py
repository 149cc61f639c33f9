"""Arguments that tools share.

Nothing here imports torch or MMEngine, so that ``--help`` is there at once: tools import
what they need in ``main``.
"""

import argparse


def tool_parser(doc: str, *positionals: str) -> argparse.ArgumentParser:
    """A parser that shows a tool's docstring as it is.

    Args:
        doc (str): The docstring, which ends with an example.
        *positionals (str): ``'config'`` and ``'checkpoint'``, if the tool takes them.
    """
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in positionals:
        parser.add_argument(name, help=f'{name} file')
    return parser


def add_runner_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of tools that build a runner."""
    parser.add_argument(
        '--work-dir',
        help='where to write logs and results (default: ./work_dirs/<config name>)',
    )
    add_cfg_options(parser)
    parser.add_argument(
        '--no-pin-memory', action='store_true', help='do not pin memory when loading'
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='job launcher',
    )
    # Old versions of torch.distributed.launch pass the rank as an argument.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        metavar='KEY=VALUE',
        help='override settings of the config, nested keys with dots: '
        'model.backbone.depth=34 "exits=[1,2]"',
    )


def add_points(parser: argparse.ArgumentParser, default: str) -> None:
    """Add ``--points``, names of operating points everywhere.

    Args:
        parser (argparse.ArgumentParser): The parser.
        default (str): Which points are taken without the argument.
    """
    parser.add_argument(
        '--points',
        nargs='+',
        metavar='POINT',
        help=f'names of operating points (default: {default})',
    )


def add_shape(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--shape',
        type=int,
        nargs='+',
        default=[224, 224],
        help='height and width of the images in pixels, or one number for both '
        '(default: 224 224)',
    )


def checked_shape(parser: argparse.ArgumentParser, shape: list[int]) -> list[int]:
    """Height and width that were asked for, or the parser's error."""
    if len(shape) > 2 or min(shape) < 1:
        parser.error(f'--shape takes one or two positive numbers, got {shape}')
    return [shape[0], shape[-1]]
