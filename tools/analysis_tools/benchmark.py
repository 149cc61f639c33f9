"""Time a model against a baseline: the two run alternately in one process.

example: python tools/analysis_tools/benchmark.py configs/mod/resnet50_mod_100e_in1k.py \\
             --baseline mmpretrain::resnet/resnet50_8xb32_in1k.py --batch-size 8
"""

import argparse
import json
import platform
import shlex
import sys
from collections.abc import Callable
from contextlib import ExitStack
from datetime import date
from functools import partial
from pathlib import Path
from typing import NamedTuple

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
PROFILED_RUNS = 5
DTYPES = dict(fp32='float32', bf16='bfloat16', fp16='float16')
SETTINGS = ('batch_size', 'shape', 'dtype', 'channels_last', 'compile')


class Contender(NamedTuple):
    """A model, named after its config, and how to run it on a batch of random images."""

    name: str
    parameters: int
    macs: int  # per image
    run: Callable


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
    parser.add_argument('--dtype', choices=DTYPES, default='fp32', help='default: fp32')
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


def build_contender(path: str, args, prepare: Callable = lambda _: None) -> Contender:
    """Build the model of a config and a batch for it; ``prepare`` gets the model."""
    import torch

    from mmdyn import count_macs
    from mmdyn.engine.build import (
        build_model,
        forward_arguments,
        image_channels,
        random_images,
        read_config,
    )

    cfg = read_config(path)
    model = build_model(cfg)
    prepare(model)
    shape = (image_channels(model), *args.shape)
    macs = count_macs(model, shape, **forward_arguments(cfg, *args.shape))
    parameters = sum(p.numel() for p in model.parameters())
    layout = torch.channels_last if args.channels_last else torch.contiguous_format
    model.to(args.device, getattr(torch, DTYPES[args.dtype]), memory_format=layout)
    images = random_images(model, args.batch_size, *args.shape)
    run = partial(
        torch.compile(model) if args.compile else model,
        images.contiguous(memory_format=layout),
        **forward_arguments(cfg, *args.shape, args.batch_size),
    )
    return Contender(Path(path.split('::')[-1]).stem, parameters, macs, run)


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
        spatial = [m for m in model.modules() if hasattr(m, 'coherent_masks')]
        if not spatial:
            raise ValueError(f'--coherent-masks needs a spatial network: {args.config}')
        masks.enter_context(spatial[0].coherent_masks())


def summary(baseline: Contender, model: Contender, times) -> dict:
    """Costs and times of two models, from milliseconds per batch, (rounds, 2).

    ``mac_ratio`` is the speed-up if time were MACs.
    """
    found = {
        role: dict(
            name=each.name,
            parameters=each.parameters,
            macs_per_image=each.macs,
            latency_ms=spread(column),
        )
        for role, each, column in zip(('baseline', 'model'), (baseline, model), times.T)
    }
    speed_up = spread(times[:, 0] / times[:, 1])  # round by round
    return dict(**found, speed_up=speed_up, mac_ratio=baseline.macs / model.macs)


def spread(values) -> dict[str, float]:
    import numpy as np

    p10, median, p90 = np.percentile(values, [10, 50, 90])
    return dict(median=median, p10=p10, p90=p90)


def describe_machine(device: str) -> dict:
    import torch

    if torch.device(device).type == 'cuda':
        name = torch.cuda.get_device_name(device)
    else:
        cpuinfo = Path('/proc/cpuinfo')
        lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
        names = [line.split(': ')[1] for line in lines if line.startswith('model name')]
        name = names[0] if names else platform.processor() or platform.machine()
    return dict(
        device=name,
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        date=date.today().isoformat(),
    )


def print_results(found: dict) -> None:
    from mmdyn.evaluation.tables import Column, number_column, print_table

    machine, settings = found['machine'], found['settings']
    height, width = settings['shape']
    if settings['point']:
        point, masks = settings['point'], settings['masks']
        print(f'{found["model"]["name"]} at {point}, masks: {masks}')
    layout = 'channels last' if settings['channels_last'] else 'NCHW'
    title = (
        f'{settings["batch_size"]}×{height}×{width}, {settings["dtype"]}, {layout}'
        f'{", compiled" if settings["compile"] else ""}; {machine["device"]}, '
        f'{machine["threads"]} threads, torch {machine["torch"]}, {machine["date"]}'
    )
    rows = [found['baseline'], found['model']]
    times = [row['latency_ms'] for row in rows]
    ranges = [f'{time["p10"]:.2f} to {time["p90"]:.2f}' for time in times]
    columns = [
        Column('model', '', [row['name'] for row in rows]),
        number_column('M params', '', [row['parameters'] for row in rows], 2, 1e6),
        number_column('GMACs', '', [row['macs_per_image'] for row in rows], 3, 1e9),
        number_column('ms', '', [time['median'] for time in times], 2),
        Column('p10 to p90', '', ranges, justify='right'),
    ]
    print_table(columns, title, 'GMACs: per image; ms: per batch, median.')
    speed_up = found['speed_up']
    print(
        f'speed-up {speed_up["median"]:.3f} (p10 {speed_up["p10"]:.3f}, '
        f'p90 {speed_up["p90"]:.3f}); MACs would give {found["mac_ratio"]:.3f}'
    )


def operator_times(contender: Contender, device: str) -> dict[str, float]:
    """Milliseconds per run in each operator, without those that it calls."""
    import torch

    field = 'self_cpu_time_total'
    if torch.device(device).type == 'cuda':
        event = torch.autograd.profiler_util.FunctionEventAvg
        renamed = hasattr(event, 'self_device_time_total')  # in torch 2.4
        field = 'self_device_time_total' if renamed else 'self_cuda_time_total'
    with torch.no_grad(), torch.profiler.profile() as profiler:
        for _ in range(PROFILED_RUNS):
            contender.run()
    events = profiler.key_averages()
    return {event.key: getattr(event, field) / 1e3 / PROFILED_RUNS for event in events}


def print_profile(names: list[str], times: list[dict[str, float]]) -> None:
    """Print the milliseconds per batch of each model in each operator."""
    from mmdyn.evaluation.tables import Column, number_column, print_table

    totals = {name: sum(t.get(name, 0) for t in times) for t in times for name in t}
    shown = sorted(totals, key=totals.get, reverse=True)[:PROFILED_OPERATORS]
    columns = [Column('operator', '', [*shown, 'all others'])]
    for model, time in zip(names, times):
        values = [time.get(name, 0) for name in shown]
        rest = sum(time.values()) - sum(values)
        columns.append(number_column(model, '', [*values, rest], 2))
    print_table(columns, 'ms per batch by operator, measured while profiling')


def main() -> None:
    args = parse_args()

    import torch
    from rich.console import Console
    from rich.progress import track

    from mmdyn.evaluation.latency import time_alternately

    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    with ExitStack() as masks:
        with exit_on(FileNotFoundError, ValueError):
            contenders = (
                build_contender(args.baseline, args),
                build_contender(args.config, args, partial(prepare, args, masks)),
            )
        times = time_alternately(
            [contender.run for contender in contenders],
            args.rounds,
            track=partial(track, description='Timing', console=Console(stderr=True)),
        )
        found = summary(*contenders, times)
        found['settings'] = dict(
            **{name: getattr(args, name) for name in SETTINGS},
            point=args.point,
            masks='coherent' if args.coherent_masks else 'of the network',
            rounds=args.rounds,
        )
        found['command'] = shlex.join(sys.argv)
        found['machine'] = describe_machine(args.device)
        print_results(found)
        if args.profile:
            in_operators = [operator_times(each, args.device) for each in contenders]
            print_profile([each.name for each in contenders], in_operators)
    if args.json:
        Path(args.json).write_text(json.dumps(found, indent=2) + '\n')


if __name__ == '__main__':
    main()
