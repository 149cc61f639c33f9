"""Study of knowledge consistency: training and testing over several seeds.

A Closer Look at Branch Classifiers of Multi-exit Architectures, Lin et al., sections IV-C
and V-G, Figs. 12 and 13.
"""

import argparse
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import numpy as np
from mmengine.config import Config

from mmdyn.engine.build import read_config
from mmdyn.engine.runner import build_runner, load_config, require_settings
from mmdyn.evaluation.point_result import PointResult
from mmdyn.visualization.style import add_legend, finish, new_figure


def study_config(args: argparse.Namespace) -> Config:
    """The multi-exit network's config, changed into that of the study.

    It keeps the data and has the paper's schedule (section V-A). ``args`` are those of
    tools/analysis_tools/knowledge_consistency.py.
    """
    cfg, epochs = load_config(args), args.epochs
    needed = ('train_dataloader', 'test_dataloader', 'test_evaluator')
    require_settings(cfg, 'the tool needs', *needed)
    cfg.model = dict(
        type='mmdyn.KnowledgeConsistency',
        multi_exit=_model_config(cfg),
        multi_exit_checkpoint=args.checkpoint,
        baseline=_model_config(read_config(args.baseline_config)),
        baseline_checkpoint=args.baseline_checkpoint,
        layers=args.layers,
    )
    sgd = dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-4)
    cfg.optim_wrapper = dict(optimizer=sgd)
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


def run_seed(cfg: Config, seed: int, folder: Path) -> list[PointResult]:
    """Train and test once; a result for each operating point, the baseline's last."""
    cfg.work_dir = str(folder / f'seed_{seed}')
    cfg.experiment_name = f'knowledge_consistency_seed_{seed}'
    cfg.randomness = dict(seed=seed)
    runner = build_runner(cfg, 'train_dataloader', 'val_dataloader')
    runner.train()
    runner.val()
    return runner.val_loop.results


class ConsistencyStudy:
    """Scores (reconstructions, seeds) by the first metric, beside the baseline's.

    Sample standard deviations are over the seeds; those of one seed are ``None``.
    """

    def __init__(self, results: Sequence[Sequence[PointResult]]):
        *reconstructed, baseline = results[0]
        self.metric = next(iter(baseline.metrics))
        self.baseline = baseline.score(self.metric)
        self.stages = tuple(each.settings['stage'] for each in reconstructed)
        self.layers = tuple(each.settings['layers'] for each in reconstructed)
        scores = [[each.score(self.metric) for each in seed[:-1]] for seed in results]
        self.scores = np.array(scores).T
        self.means = self.scores.mean(axis=1)
        self.deviations = [None] * len(reconstructed)
        if len(results) > 1:
            self.deviations = self.scores.std(axis=1, ddof=1)

    def draw(self, path: Path) -> None:
        """Draw the score against N, a panel for each stage (Figs. 12 and 13)."""
        number = self.stages[-1]
        figure = new_figure(2.6 * number + 0.8, 3)
        panels = figure.subplots(1, number, sharey=True, squeeze=False)[0]
        rows = sorted(zip(self.stages, self.layers, self.means, self.deviations))
        line = dict(fmt='o-', color='black', capsize=3)
        line['label'] = 'reconstructed, mean ± standard deviation'
        for stage, axes in enumerate(panels, 1):
            axes.axhline(self.baseline, color='0.5', lw=1, ls='--', label='baseline')
            _, layers, means, deviations = zip(*(row for row in rows if row[0] == stage))
            axes.errorbar(layers, means, [each or 0 for each in deviations], **line)
            axes.set_title(f'Stage {stage}', fontsize=9)
            axes.set_xticks(layers)
            finish(axes, xlabel='Non-linear layers N')
        unit = ' (%)' if 'accuracy' in self.metric else ''
        panels[0].set_ylabel(f'{self.metric}{unit}')
        add_legend(figure, ncols=2, handles=panels[0].get_legend_handles_labels()[0])
        figure.savefig(path)
