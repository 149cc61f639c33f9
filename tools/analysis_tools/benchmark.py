"""Time a model against a baseline: the two take turns in one process.

example: python tools/analysis_tools/benchmark.py configs/mod/resnet50_mod_100e_in1k.py \\
             --baseline mmpretrain::resnet/resnet50_8xb32_in1k.py --batch-size 8
"""

import argparse
import json
import platform
import shlex
import sys
from contextlib import ExitStack
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import nn

from mmdyn import count_macs, load_operating_points, set_operating_point
from mmdyn.engine.build import (
    add_shape_argument,
    build_model,
    check_shape,
    forward_arguments,
    image_channels,
    random_images,
    read_config,
)
from mmdyn.evaluation.latency import time_alternately
from mmdyn.methods.spatial.random_masks import active_budget, synthetic_masks
from mmdyn.utils.checkpoints import load_checkpoint_strictly

DTYPES = dict(fp32=torch.float32, bf16=torch.bfloat16, fp16=torch.float16)
PROFILED_OPERATORS = 12


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file of the model')
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
    add_shape_argument(parser)
    parser.add_argument('--device', default='cpu', help='for example cuda (default: cpu)')
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
    args.shape = check_shape(parser, args.shape)
    for name in ('batch_size', 'rounds', 'threads'):
        value = getattr(args, name)
        if value is not None and value < 1:
            parser.error(f'--{name.replace("_", "-")} must be 1 or more, got {value}')
    if args.coherent_masks and not args.point:
        parser.error('--coherent-masks needs --point budget=…')
    _check_device(parser, args.device)
    if args.json and not Path(args.json).parent.is_dir():
        parser.error(f'--json {args.json}: there is no such folder')
    return args


def _check_device(parser: argparse.ArgumentParser, name: str) -> None:
    try:
        torch.zeros(1, device=name)
    except (AssertionError, RuntimeError) as error:
        parser.error(f'--device {name}: {str(error).splitlines()[0]}')


class Contender:
    """A config's model, ready to run on one batch of random images.

    Args:
        path (str): The config file.
        args (argparse.Namespace): Arguments of this tool.
        prepare (Callable[[nn.Module], None] | None): What to do with the built model.
    """

    def __init__(self, path: str, args: argparse.Namespace, prepare=None):
        cfg = read_config(path)
        self.name = Path(path.split('::')[-1]).stem
        model = build_model(cfg)
        if prepare is not None:
            prepare(model)
        height, width = args.shape
        self.macs = count_macs(
            model,
            (image_channels(model), height, width),
            **forward_arguments(cfg, height, width),
        )
        self.parameters = sum(p.numel() for p in model.parameters())
        layout = torch.channels_last if args.channels_last else torch.contiguous_format
        model.to(args.device, DTYPES[args.dtype], memory_format=layout)
        images = random_images(model, args.batch_size, height, width)
        self.run = partial(
            torch.compile(model) if args.compile else model,
            images.contiguous(memory_format=layout),
            **forward_arguments(cfg, height, width, args.batch_size),
        )


def at_its_point(args: argparse.Namespace, masks: ExitStack, model: nn.Module) -> None:
    """Load the weights, set the operating point and, if asked for, masks."""
    if args.checkpoint:
        load_checkpoint_strictly(model, args.checkpoint)
        load_operating_points(model, args.checkpoint)
    if args.point:
        set_operating_point(model, args.point)
    if args.coherent_masks:
        budget = active_budget(model)
        masks.enter_context(synthetic_masks(model, lambda: budget))


def spread(values: np.ndarray) -> dict[str, float]:
    p10, median, p90 = np.percentile(values, [10, 50, 90])
    return dict(median=median, p10=p10, p90=p90)


def results(
    baseline: Contender, model: Contender, times: np.ndarray, args: argparse.Namespace
) -> dict:
    """Everything that was measured; ``times`` are milliseconds (rounds, 2)."""
    contenders = dict(baseline=baseline, model=model)
    rows = {
        role: dict(
            name=contender.name,
            parameters=contender.parameters,
            macs_per_image=contender.macs,
            latency_ms=spread(column),
        )
        for (role, contender), column in zip(contenders.items(), times.T)
    }
    return dict(
        **rows,
        speed_up=spread(times[:, 0] / times[:, 1]),
        mac_ratio=baseline.macs / model.macs,
        settings=dict(
            batch_size=args.batch_size,
            shape=args.shape,
            dtype=args.dtype,
            channels_last=args.channels_last,
            compile=args.compile,
            point=args.point,
            masks='coherent' if args.coherent_masks else 'of the network',
            rounds=args.rounds,
        ),
        command=shlex.join(sys.argv),
        machine=dict(
            device=_device_name(args.device),
            threads=torch.get_num_threads(),
            torch=torch.__version__,
            date=date.today().isoformat(),
        ),
    )


def _device_name(device: str) -> str:
    if torch.device(device).type == 'cuda':
        return torch.cuda.get_device_name(device)
    cpuinfo = Path('/proc/cpuinfo')
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [
        line.split(':')[1].strip() for line in lines if line.startswith('model name')
    ]
    return names[0] if names else platform.processor() or platform.machine()


def print_results(found: dict, console: Console) -> None:
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
    console.print('GMACs: of one image; ms: of a batch, median.')
    console.print(
        f'speed-up {speed_up["median"]:.3f} (p10 {speed_up["p10"]:.3f}, '
        f'p90 {speed_up["p90"]:.3f}); MACs would give {found["mac_ratio"]:.3f}'
    )


def operator_times(contender: Contender, device: str, runs: int = 5) -> dict[str, float]:
    """Milliseconds that a run spends in each operator, the ones it calls left out."""
    field = 'self_cpu_time_total'
    if torch.device(device).type == 'cuda':
        event = torch.autograd.profiler_util.FunctionEventAvg
        renamed = hasattr(event, 'self_device_time_total')  # in torch 2.4
        field = 'self_device_time_total' if renamed else 'self_cuda_time_total'
    with torch.no_grad(), torch.profiler.profile() as profiler:
        for _ in range(runs):
            contender.run()
    return {
        event.key: getattr(event, field) / 1e3 / runs for event in profiler.key_averages()
    }


def print_profile(contenders: list[Contender], device: str, console: Console) -> None:
    times = [operator_times(contender, device) for contender in contenders]
    totals = {name: sum(t.get(name, 0) for t in times) for t in times for name in t}
    table = Table(title='ms a batch by operator, measured while profiling')
    table.add_column('operator')
    for contender in contenders:
        table.add_column(contender.name, justify='right')
    shown = sorted(totals, key=totals.get, reverse=True)[:PROFILED_OPERATORS]
    for name in shown:
        table.add_row(name, *(f'{t.get(name, 0):.2f}' for t in times))
    rest = [sum(ms for name, ms in t.items() if name not in shown) for t in times]
    table.add_row('all others', *(f'{ms:.2f}' for ms in rest))
    console.print(table)


def main() -> None:
    args = parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    with ExitStack() as masks:
        prepare = partial(at_its_point, args, masks)
        try:
            contenders = [
                Contender(args.baseline, args),
                Contender(args.config, args, prepare),
            ]
        except (FileNotFoundError, ValueError) as error:
            sys.exit(str(error))
        measure(contenders, args)


def measure(contenders: list[Contender], args: argparse.Namespace) -> None:
    times = time_alternately(
        [contender.run for contender in contenders],
        args.rounds,
        track=partial(track, description='Timing', console=Console(file=sys.stderr)),
    )
    found = results(*contenders, times, args)
    console = Console()
    print_results(found, console)
    if args.profile:
        print_profile(contenders, args.device, console)
    if args.json:
        Path(args.json).write_text(json.dumps(found, indent=2) + '\n')


if __name__ == '__main__':
    main()
