"""Command-line arguments that tools share.

Nothing here imports torch or MMEngine, so that ``--help`` is printed at once.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


def tool_parser(doc: str, *positionals: str) -> argparse.ArgumentParser:
    """A parser with a tool's docstring and file arguments such as ``'config'``."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in positionals:
        parser.add_argument(name, help=f'{name} file')
    return parser


def add_runner_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that ``mmdyn.engine.runner.load_config`` puts into a config."""
    parser.add_argument(
        '--work-dir',
        help='where to write logs and results (default: ./work_dirs/<config name>)',
    )
    add_cfg_options(parser)
    parser.add_argument(
        '--no-pin-memory', action='store_true', help='do not pin memory when loading'
    )
    launchers = ['none', 'pytorch', 'slurm', 'mpi']
    parser.add_argument(
        '--launcher', choices=launchers, default='none', help='job launcher'
    )
    # Old versions of torch.distributed.launch pass the rank as an argument.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--cfg-options``: a list of ``KEY=VALUE``, for ``merge_cfg_options``."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action='extend',
        type=_key_and_value,
        default=[],
        metavar='KEY=VALUE',
        help='override settings of the config, nested keys with dots: '
        'model.backbone.depth=34 "exits=[1,2]"',
    )


def _key_and_value(text: str) -> str:
    key, equals, value = text.partition('=')
    if not (key and equals):
        raise argparse.ArgumentTypeError(f'expected KEY=VALUE, got {text!r}')
    if any(value.count(pair[0]) != value.count(pair[1]) for pair in ('()', '[]')):
        raise argparse.ArgumentTypeError(f'brackets do not match in {text!r}')
    return text


def add_points(parser: argparse.ArgumentParser, default: str) -> None:
    """Add ``--points``; ``default`` says which are taken without it."""
    text = f'names of operating points (default: {default})'
    parser.add_argument('--points', nargs='+', metavar='POINT', help=text)


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--device', default='cpu', help='for example cuda (default: cpu)')


def add_shape(parser: argparse.ArgumentParser) -> None:
    """Add ``--shape``; :func:`checked_shape` gives height and width."""
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


def check_at_least(
    parser: argparse.ArgumentParser, args: argparse.Namespace, **least: int
) -> None:
    """The parser's error for an argument below its least value, as in ``rounds=1``."""
    for name, bound in least.items():
        value = getattr(args, name)
        if value is not None and value < bound:
            option = name.replace('_', '-')
            parser.error(f'--{option} must be {bound} or more, got {value}')


def check_files(parser: argparse.ArgumentParser, files: Iterable[str]) -> None:
    """The parser's error for a file that does not exist."""
    for file in files:
        if not Path(file).is_file():
            parser.error(f'there is no file {file}')


def check_folder_of(parser: argparse.ArgumentParser, option: str, file: str) -> None:
    """The parser's error for a file to write whose folder does not exist."""
    if not Path(file).parent.is_dir():
        parser.error(f'{option} {file}: there is no such folder')


@contextmanager
def exit_on(*errors: type[Exception]) -> Iterator[None]:
    """End the program with the message of such an error, without a traceback."""
    try:
        yield
    except errors as error:
        sys.exit(str(error))
