"""Study of knowledge consistency: training and testing over several seeds.

A Closer Look at Branch Classifiers of Multi-exit Architectures, Lin et al., sections IV-C
and V-G, Figs. 12 and 13.
"""

import statistics
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.runner import Runner

from mmdyn.engine.runner import build_runner, refuse_empty_dataset, require_settings
from mmdyn.evaluation.tables import Column, number_column, print_table, write_table
from mmdyn.operating_point import DENSE
from mmdyn.visualization.style import add_legend, finish, new_figure


@dataclass(frozen=True)
class Reconstruction:
    """Scores of each seed with the reconstruction of a stage by N non-linear layers."""

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


def study_config(
    cfg: Config,
    checkpoint: str,
    baseline: Config,
    baseline_checkpoint: str,
    layers: Sequence[int],
    epochs: int,
) -> Config:
    """Change the multi-exit network's config into that of the study.

    It keeps the data and has the paper's schedule (section V-A) for some epochs.

    Raises:
        ValueError: If training or test data are missing.
    """
    needed = ('train_dataloader', 'test_dataloader', 'test_evaluator')
    require_settings(cfg, 'the tool needs', *needed)
    cfg.model = dict(
        type='mmdyn.KnowledgeConsistency',
        multi_exit=_model_config(cfg),
        multi_exit_checkpoint=checkpoint,
        baseline=_model_config(baseline),
        baseline_checkpoint=baseline_checkpoint,
        layers=layers,
    )
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
    # The test data are run by a validation loop: it writes no report of each seed.
    cfg.val_dataloader, cfg.val_evaluator = cfg.test_dataloader, cfg.test_evaluator
    cfg.val_cfg = dict(type='mmdyn.OperatingPointValLoop')
    cfg.test_dataloader = cfg.test_evaluator = cfg.test_cfg = None
    return cfg


def _model_config(cfg: Config) -> dict:
    """The config's model with its preprocessor, as a runner would build it."""
    settings = deepcopy(dict(cfg.model))
    if preprocessor := cfg.pop('data_preprocessor', None):
        settings.setdefault('data_preprocessor', preprocessor)
    return settings


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
    runner.val()
    results = runner.val_loop.results
    metric = next(iter(results[-1].metrics))
    return metric, {result.name: result.score(metric) for result in results}


class ConsistencyStudy:
    """Scores of all reconstructions over the seeds, beside the baseline's.

    Args:
        scores (Sequence[Mapping[str, float]]): Scores by operating point, for each seed.
        layers (Sequence[int]): Numbers of non-linear layers.
        metric (str): Name of the score.
    """

    def __init__(
        self, scores: Sequence[Mapping[str, float]], layers: Sequence[int], metric: str
    ):
        self.metric = metric
        self.baseline = scores[0][DENSE.name]
        self.stages = range(1, (len(scores[0]) - 1) // len(layers) + 1)
        self.rows = [
            Reconstruction(i, n, tuple(seed[f'stage={i},layers={n}'] for seed in scores))
            for i in self.stages
            for n in layers
        ]

    def print(self) -> None:
        means = []
        for row in self.rows:
            spread = '' if row.deviation is None else f' ± {row.deviation:.2f}'
            means.append(f'{row.mean:.2f}{spread}')
        columns = [
            number_column('stage', '', [row.stage for row in self.rows], 0),
            number_column('N', '', [row.layers for row in self.rows], 0),
            Column(self.metric, '', means, justify='right'),
            number_column('baseline', '', [self.baseline] * len(self.rows), 2),
        ]
        caption = (
            f'{self.metric} of the plain network with reconstructed features, mean ± '
            f'standard deviation over {len(self.rows[0].scores)} seeds; baseline: with '
            f'its own.'
        )
        print_table(columns, 'Knowledge consistency', caption)

    def write(self, folder: Path) -> list[Path]:
        """Write ``knowledge_consistency.csv`` and ``.png``."""
        columns = [
            Column('', 'stage', [row.stage for row in self.rows]),
            Column('', 'layers', [row.layers for row in self.rows]),
            Column('', f'{self.metric}_mean', [row.mean for row in self.rows]),
            Column('', f'{self.metric}_std', [row.deviation for row in self.rows]),
            Column('', 'baseline', [self.baseline] * len(self.rows)),
        ]
        for seed, scores in enumerate(zip(*(row.scores for row in self.rows))):
            columns.append(Column('', f'seed_{seed}', scores))
        table = write_table(columns, folder / 'knowledge_consistency.csv')
        picture = table.with_suffix('.png')
        self._draw(picture)
        return [table, picture]

    def _draw(self, path: Path) -> None:
        """Draw the score against N, a panel for each stage (Figs. 12 and 13)."""
        figure = new_figure(2.6 * len(self.stages) + 0.8, 3)
        panels = figure.subplots(1, len(self.stages), sharey=True, squeeze=False)[0]
        for axes, stage in zip(panels, self.stages):
            axes.axhline(self.baseline, color='0.5', lw=1, ls='--', label='baseline')
            rows = [row for row in self.rows if row.stage == stage]
            rows.sort(key=lambda row: row.layers)
            axes.errorbar(
                [row.layers for row in rows],
                [row.mean for row in rows],
                [row.deviation or 0 for row in rows],
                fmt='o-',
                color='black',
                capsize=3,
                label='reconstructed, mean ± standard deviation',
            )
            axes.set_title(f'Stage {stage}', fontsize=9)
            axes.set_xticks([row.layers for row in rows])
            finish(axes, xlabel='Non-linear layers N')
        unit = ' (%)' if 'accuracy' in self.metric else ''
        panels[0].set_ylabel(f'{self.metric}{unit}')
        handles, labels = panels[0].get_legend_handles_labels()
        add_legend(figure, ncols=2, handles=handles, labels=labels)
        figure.savefig(path)
