"""Time a model against a baseline: the two run alternately in one process.

example: python tools/analysis_tools/benchmark.py configs/mod/resnet50_mod_100e_in1k.py \\
             --baseline mmpretrain::resnet/resnet50_8xb32_in1k.py --batch-size 8
"""

import argparse
import json
import shlex
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from mmdyn.utils.command_line import (
    add_device,
    add_shape,
    check_at_least,
    check_folder_of,
    checked_shape,
    exit_on,
    tool_parser,
)

PROFILED_OPERATORS = 12


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__, 'config')
    parser.add_argument(
        '--baseline',
        required=True,
        help='config file to compare with; PACKAGE::FILE for one of an installed package',
    )
    parser.add_argument('--checkpoint', metavar='FILE', help='weights of the model')
    parser.add_argument(
        '--point', help='operating point of the model (default: the dense one)'
    )
    parser.add_argument(
        '--coherent-masks',
        action='store_true',
        help='smooth synthetic masks that execute exactly the budget of --point, for a '
        'spatial network without trained masks',
    )
    parser.add_argument('--batch-size', type=int, default=8, help='default: 8')
    add_shape(parser)
    add_device(parser)
    parser.add_argument(
        '--dtype', choices=['fp32', 'bf16', 'fp16'], default='fp32', help='default: fp32'
    )
    parser.add_argument(
        '--channels-last',
        action='store_true',
        help='memory format of both models; the quicker one on CPUs',
    )
    parser.add_argument('--compile', action='store_true', help='torch.compile both')
    parser.add_argument('--threads', type=int, help='of a CPU (default: as torch does)')
    parser.add_argument(
        '--rounds', type=int, default=30, help='runs of each model (default: 30)'
    )
    parser.add_argument(
        '--profile',
        action='store_true',
        help='also say in which operators the time of each goes',
    )
    parser.add_argument('--json', metavar='FILE', help='write the numbers to a file')
    args = parser.parse_args()
    args.shape = checked_shape(parser, args.shape)
    check_at_least(parser, args, batch_size=1, rounds=1, threads=1)
    if args.coherent_masks and not args.point:
        parser.error('--coherent-masks needs --point budget=…')
    _check_device(parser, args.device)
    if args.json:
        check_folder_of(parser, '--json', args.json)
    return args


def _check_device(parser: argparse.ArgumentParser, name: str) -> None:
    if name == 'cpu':
        return
    import torch

    try:
        torch.zeros(1, device=name)
    except (AssertionError, RuntimeError) as error:
        parser.error(f'--device {name}: {str(error).splitlines()[0]}')


def prepare(args: argparse.Namespace, masks: ExitStack, model) -> None:
    """Load the weights, set the operating point and, if asked for, masks."""
    from mmdyn import load_operating_points, set_operating_point
    from mmdyn.utils.checkpoints import load_checkpoint_strictly

    if args.checkpoint:
        load_checkpoint_strictly(model, args.checkpoint)
        load_operating_points(model, args.checkpoint)
    if args.point:
        set_operating_point(model, args.point)
    if args.coherent_masks:
        from mmdyn.methods.spatial.random_masks import active_budget, synthetic_masks

        budget = active_budget(model)
        masks.enter_context(synthetic_masks(model, lambda: budget))


def print_results(found: dict, console) -> None:
    from rich.table import Table

    machine, settings = found['machine'], found['settings']
    height, width = settings['shape']
    if settings['point']:
        console.print(f'{found["model"]["name"]} at {settings["point"]}', end='')
        console.print(f', masks: {settings["masks"]}')
    layout = 'channels last' if settings['channels_last'] else 'NCHW'
    table = Table(
        title=f'{settings["batch_size"]}×{height}×{width}, {settings["dtype"]}, {layout}'
        f'{", compiled" if settings["compile"] else ""}; {machine["device"]}, '
        f'{machine["threads"]} threads, torch {machine["torch"]}, {machine["date"]}'
    )
    table.add_column('model', overflow='fold')
    for name in ('M params', 'GMACs', 'ms', 'p10 to p90'):
        table.add_column(name, justify='right')
    for role in ('baseline', 'model'):
        row, latency = found[role], found[role]['latency_ms']
        table.add_row(
            row['name'],
            f'{row["parameters"] / 1e6:.2f}',
            f'{row["macs_per_image"] / 1e9:.3f}',
            f'{latency["median"]:.2f}',
            f'{latency["p10"]:.2f} to {latency["p90"]:.2f}',
        )
    console.print(table)
    speed_up = found['speed_up']
    console.print('GMACs: per image; ms: per batch, median.')
    console.print(
        f'speed-up {speed_up["median"]:.3f} (p10 {speed_up["p10"]:.3f}, '
        f'p90 {speed_up["p90"]:.3f}); MACs would give {found["mac_ratio"]:.3f}'
    )


def print_profile(names: list[str], times: list[dict[str, float]], console) -> None:
    from rich.table import Table

    totals = {name: sum(t.get(name, 0) for t in times) for t in times for name in t}
    table = Table(title='ms per batch by operator, measured while profiling')
    table.add_column('operator')
    for name in names:
        table.add_column(name, justify='right')
    shown = sorted(totals, key=totals.get, reverse=True)[:PROFILED_OPERATORS]
    for name in shown:
        table.add_row(name, *(f'{t.get(name, 0):.2f}' for t in times))
    rest = [sum(ms for name, ms in t.items() if name not in shown) for t in times]
    table.add_row('all others', *(f'{ms:.2f}' for ms in rest))
    console.print(table)


def main() -> None:
    args = parse_args()

    import torch
    from rich.console import Console
    from rich.progress import track

    from mmdyn.engine import benchmark
    from mmdyn.evaluation.latency import time_alternately

    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    names = ('batch_size', 'shape', 'dtype', 'channels_last', 'compile')
    settings = {name: getattr(args, name) for name in names}
    conditions = benchmark.Conditions(**settings, device=args.device)
    console = Console()
    with ExitStack() as masks:
        with exit_on(FileNotFoundError, ValueError):
            at_its_point = partial(prepare, args, masks)
            contenders = [
                benchmark.Contender(args.baseline, conditions),
                benchmark.Contender(args.config, conditions, at_its_point),
            ]
        times = time_alternately(
            [contender.run for contender in contenders],
            args.rounds,
            track=partial(track, description='Timing', console=Console(stderr=True)),
        )
        found = benchmark.summary(*contenders, times)
        masks_used = 'coherent' if args.coherent_masks else 'of the network'
        settings.update(point=args.point, masks=masks_used, rounds=args.rounds)
        found.update(
            settings=settings,
            command=shlex.join(sys.argv),
            machine=benchmark.describe_machine(args.device),
        )
        print_results(found, console)
        if args.profile:
            in_operators = [benchmark.operator_times(c, args.device) for c in contenders]
            print_profile([c.name for c in contenders], in_operators, console)
    if args.json:
        Path(args.json).write_text(json.dumps(found, indent=2) + '\n')


if __name__ == '__main__':
    main()
