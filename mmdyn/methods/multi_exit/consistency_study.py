"""Study of knowledge consistency: training and testing over several seeds.

A Closer Look at Branch Classifiers of Multi-exit Architectures, Lin et al., sections IV-C
and V-G, Figs. 12 and 13.
"""

import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from mmdyn.engine.runner import build_runner, refuse_empty_dataset, require_settings
from mmdyn.evaluation.tables import Column, number_column, print_table, write_table
from mmdyn.operating_point import DENSE
from mmdyn.visualization.style import add_legend, finish, new_figure


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
        stages = range(1, (len(scores[0]) - 1) // len(layers) + 1)
        self.stages, self.layers = zip(*((i, n) for i in stages for n in layers))
        places = list(zip(self.stages, self.layers))
        self.scores = np.array(
            [[seed[f'stage={i},layers={n}'] for seed in scores] for i, n in places]
        )
        self.means = self.scores.mean(axis=1)
        # Sample standard deviations over the seeds; one seed has none.
        self.deviations = [None] * len(places)
        if len(scores) > 1:
            self.deviations = self.scores.std(axis=1, ddof=1)

    def print(self) -> None:
        means = [
            f'{mean:.2f}' if deviation is None else f'{mean:.2f} ± {deviation:.2f}'
            for mean, deviation in zip(self.means, self.deviations)
        ]
        columns = [
            number_column('stage', '', self.stages, 0),
            number_column('N', '', self.layers, 0),
            Column(self.metric, '', means, justify='right'),
            number_column('baseline', '', [self.baseline] * len(means), 2),
        ]
        caption = (
            f'{self.metric} of the plain network with reconstructed features, mean ± '
            f'standard deviation over {self.scores.shape[1]} seeds; baseline: with its '
            f'own.'
        )
        print_table(columns, 'Knowledge consistency', caption)

    def write(self, folder: Path) -> list[Path]:
        """Write ``knowledge_consistency.csv`` and ``.png``."""
        columns = [
            Column('', 'stage', self.stages),
            Column('', 'layers', self.layers),
            Column('', f'{self.metric}_mean', self.means),
            Column('', f'{self.metric}_std', self.deviations),
            Column('', 'baseline', [self.baseline] * len(self.means)),
        ]
        for seed, scores in enumerate(self.scores.T):
            columns.append(Column('', f'seed_{seed}', scores))
        table = write_table(columns, folder / 'knowledge_consistency.csv')
        picture = table.with_suffix('.png')
        self._draw(picture)
        return [table, picture]

    def _draw(self, path: Path) -> None:
        """Draw the score against N, a panel for each stage (Figs. 12 and 13)."""
        number = self.stages[-1]
        figure = new_figure(2.6 * number + 0.8, 3)
        panels = figure.subplots(1, number, sharey=True, squeeze=False)[0]
        rows = sorted(zip(self.stages, self.layers, self.means, self.deviations))
        for stage, axes in enumerate(panels, 1):
            axes.axhline(self.baseline, color='0.5', lw=1, ls='--', label='baseline')
            _, layers, means, deviations = zip(*(row for row in rows if row[0] == stage))
            axes.errorbar(
                layers,
                means,
                [deviation or 0 for deviation in deviations],
                fmt='o-',
                color='black',
                capsize=3,
                label='reconstructed, mean ± standard deviation',
            )
            axes.set_title(f'Stage {stage}', fontsize=9)
            axes.set_xticks(layers)
            finish(axes, xlabel='Non-linear layers N')
        unit = ' (%)' if 'accuracy' in self.metric else ''
        panels[0].set_ylabel(f'{self.metric}{unit}')
        handles, labels = panels[0].get_legend_handles_labels()
        add_legend(figure, ncols=2, handles=handles, labels=labels)
        figure.savefig(path)
