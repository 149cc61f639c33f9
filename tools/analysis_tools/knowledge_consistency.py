"""Measure how much exits disrupt a backbone, by its knowledge consistency.

Reconstructs the features of a plain network from those of a multi-exit network, behind
each stage but the last and with growing numbers N of non-linear layers, and lets the rest
of the plain network classify them (Lin et al., sections IV-C and V-G, Figs. 12 and 13).
Trains on the training data of CONFIG with the paper's schedule, tests on its test data,
once for each seed. Prints a table and writes knowledge_consistency.csv and .png in the
work directory.

example: python tools/analysis_tools/knowledge_consistency.py CONFIG CHECKPOINT
BASELINE_CONFIG BASELINE_CHECKPOINT --seeds 3
"""

import argparse
import csv
import statistics
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.runner import Runner
from rich.console import Console
from rich.table import Table

from mmdyn.engine.build import read_config
from mmdyn.engine.runner import (
    add_launch_arguments,
    build_runner,
    load_config,
    refuse_empty_dataset,
    set_loader_defaults,
    use_pinned_memory,
)
from mmdyn.evaluation.report import console_for_tables

NEEDED = ('train_dataloader', 'test_dataloader', 'test_evaluator')


@dataclass(frozen=True)
class Row:
    """Scores with what ``layers`` non-linear layers reconstruct behind ``stage``."""

    stage: int
    layers: int
    scores: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.mean(self.scores)

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation over the seeds; one seed has none."""
        return statistics.stdev(self.scores) if len(self.scores) > 1 else None


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file of the multi-exit network')
    parser.add_argument('checkpoint', help='its checkpoint file')
    parser.add_argument(
        'baseline_config',
        help='config file of the plain network, or PACKAGE::FILE for one of an '
        'installed package',
    )
    parser.add_argument('baseline_checkpoint', help='its checkpoint file')
    parser.add_argument(
        '--epochs', type=int, default=10, help='epochs of training (default: 10)'
    )
    parser.add_argument(
        '--layers',
        type=int,
        nargs='+',
        default=[0, 1, 2, 3],
        metavar='N',
        help='numbers of non-linear layers to compare (default: 0 1 2 3)',
    )
    parser.add_argument(
        '--seeds', type=int, default=3, help='how often to train (default: 3)'
    )
    add_launch_arguments(parser)
    args = parser.parse_args()
    for name in ('epochs', 'seeds'):
        if getattr(args, name) < 1:
            parser.error(f'--{name} must be 1 or more, got {getattr(args, name)}')
    return args


def consistency_config(args: argparse.Namespace) -> Config:
    """CONFIG's data with the two networks and the paper's schedule (section V-A)."""
    cfg = load_config(args)
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    missing = [name for name in NEEDED if cfg.get(name) is None]
    if missing:
        raise ValueError(f'the tool needs {", ".join(missing)} in {args.config}')
    set_loader_defaults(
        cfg,
        ['train_dataloader', 'test_dataloader'],
        pin_memory=use_pinned_memory(args),
    )
    cfg.model = dict(
        type='mmdyn.KnowledgeConsistency',
        multi_exit=model_config(cfg),
        multi_exit_checkpoint=args.checkpoint,
        baseline=model_config(read_config(args.baseline_config)),
        baseline_checkpoint=args.baseline_checkpoint,
        layers=args.layers,
    )
    set_schedule(cfg, args.epochs)
    # The test data are run by a validation loop: it writes no report of each seed.
    cfg.val_dataloader, cfg.val_evaluator = cfg.test_dataloader, cfg.test_evaluator
    cfg.val_cfg = dict(type='mmdyn.OperatingPointValLoop')
    cfg.test_dataloader = cfg.test_evaluator = cfg.test_cfg = None
    return cfg


def model_config(cfg: Config) -> dict:
    """The config's model with its preprocessor, which a runner would have put in."""
    settings = deepcopy(dict(cfg.model))
    if preprocessor := cfg.pop('data_preprocessor', None):
        settings.setdefault('data_preprocessor', preprocessor)
    return settings


def set_schedule(cfg: Config, epochs: int) -> None:
    """Put the paper's training in the place of CONFIG's, and drop what goes with that."""
    cfg.optim_wrapper = dict(
        optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-4)
    )
    cfg.param_scheduler = dict(type='StepLR', step_size=3, gamma=0.1, by_epoch=True)
    # val_begin is out of reach: the test comes after the training.
    cfg.train_cfg = dict(by_epoch=True, max_epochs=epochs, val_begin=epochs + 1)
    cfg.log_processor = dict(by_epoch=True)
    cfg.load_from, cfg.resume, cfg.custom_hooks = None, False, []
    cfg.pop('auto_scale_lr', None)
    hooks = cfg.get('default_hooks') or {}
    cfg.default_hooks = {**hooks, 'checkpoint': dict(type='CheckpointHook', interval=-1)}


def run_seed(cfg: Config, seed: int, folder: Path) -> tuple[str, dict[str, float]]:
    """Train and test once; the name of the first metric, and its values by point."""
    cfg.work_dir = str(folder / f'seed_{seed}')
    cfg.experiment_name = f'knowledge_consistency_seed_{seed}'
    cfg.randomness = dict(seed=seed)
    # A job of several processes is set up once, with the first seed.
    started = torch.distributed.is_initialized()
    with redirect_stdout(sys.stderr):  # the logger's
        runner = Runner.from_cfg(cfg) if started else build_runner(cfg)
    for name in ('train_dataloader', 'val_dataloader'):
        refuse_empty_dataset(runner, name)
    runner.train()
    found = runner.val()
    prefix = 'baseline/'
    metric = next(key for key in found if key.startswith(prefix)).removeprefix(prefix)
    suffix = f'/{metric}'
    return metric, {
        key.removesuffix(suffix): float(value)
        for key, value in found.items()
        if key.endswith(suffix)
    }


def collect(
    scores: Sequence[Mapping[str, float]], layers: Sequence[int]
) -> tuple[list[Row], float]:
    """The rows of the seeds' scores by point, and the baseline's score."""
    stages = (len(scores[0]) - 1) // len(layers)
    rows = [
        Row(i, n, tuple(of_seed[f'stage={i},layers={n}'] for of_seed in scores))
        for i in range(1, stages + 1)
        for n in layers
    ]
    return rows, scores[0]['dense']


def print_rows(rows: list[Row], baseline: float, metric: str, console: Console) -> None:
    seeds = len(rows[0].scores)
    table = Table(
        title='Knowledge consistency',
        caption=f'{metric} of the plain network with reconstructed features, mean ± '
        f'standard deviation over {seeds} seeds; baseline: with its own.',
    )
    for name in ('stage', 'N', metric, 'baseline'):
        table.add_column(name, justify='right')
    for row in rows:
        spread = '' if row.deviation is None else f' ± {row.deviation:.2f}'
        table.add_row(
            str(row.stage),
            str(row.layers),
            f'{row.mean:.2f}{spread}',
            f'{baseline:.2f}',
        )
    console.print(table)


def write_rows(rows: list[Row], baseline: float, metric: str, path: Path) -> None:
    with path.open('w', newline='') as file:
        writer = csv.writer(file)
        header = ['stage', 'layers', f'{metric}_mean', f'{metric}_std', 'baseline']
        seeds = [f'seed_{seed}' for seed in range(len(rows[0].scores))]
        writer.writerow([*header, *seeds])
        for r in rows:
            writer.writerow([r.stage, r.layers, r.mean, r.deviation, baseline, *r.scores])


def draw(rows: list[Row], baseline: float, metric: str, path: Path) -> None:
    """Draw the score against N, a panel for each stage (Figs. 12 and 13)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    stages = sorted({row.stage for row in rows})
    figure = Figure(figsize=(2.6 * len(stages) + 0.8, 3), layout='constrained')
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(stages), sharey=True, squeeze=False)[0]
    for axes, stage in zip(panels, stages):
        axes.axhline(baseline, color='0.5', lw=1, ls='--', label='baseline')
        of_stage = sorted((r for r in rows if r.stage == stage), key=lambda r: r.layers)
        axes.errorbar(
            [row.layers for row in of_stage],
            [row.mean for row in of_stage],
            [row.deviation or 0 for row in of_stage],
            fmt='o-',
            color='black',
            capsize=3,
            label='reconstructed, mean ± standard deviation',
        )
        axes.set_title(f'Stage {stage}', fontsize=9)
        axes.set_xticks([row.layers for row in of_stage])
        axes.set_xlabel('Non-linear layers N')
        axes.grid(alpha=0.25)
        axes.spines[['top', 'right']].set_visible(False)
    panels[0].set_ylabel(f'{metric} (%)' if 'accuracy' in metric else metric)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, frameon=False, fontsize=8, loc='outside upper center', ncols=2
    )
    figure.savefig(path, dpi=200)


def main() -> None:
    args = parse_args()
    scores = []
    try:
        cfg = consistency_config(args)
        folder = Path(cfg.work_dir)
        for seed in range(args.seeds):
            metric, of_seed = run_seed(cfg, seed, folder)
            scores.append(of_seed)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(str(error))
    if not is_main_process():
        return
    rows, baseline = collect(scores, args.layers)
    console = console_for_tables()
    print_rows(rows, baseline, metric, console)
    path = folder / 'knowledge_consistency'
    table, picture = path.with_suffix('.csv'), path.with_suffix('.png')
    write_rows(rows, baseline, metric, table)
    draw(rows, baseline, metric, picture)
    console.print('Written to', soft_wrap=True)
    for file in (table, picture):
        console.print(f'  {file}', soft_wrap=True)


if __name__ == '__main__':
    main()
