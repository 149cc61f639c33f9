"""What the configs of configs/spatial say beside their metafile."""

import re
from pathlib import Path

import numpy as np
import pytest
from helpers.configs import (
    build,
    docstring,
    in_units,
    load,
    macs,
    names,
    paper,
    table_rows,
)
from helpers.paths import ROOT
from mmengine.config import Config
from mmengine.dataset import Compose

from mmdyn.operating_point import operating_points, trained_operating_points

NAMES = names('spatial')
DENSE = [name for name in NAMES if 'spatial_' not in name and 'spatial-' not in name]
SPATIAL = [name for name in NAMES if name not in DENSE]
# Top-1 of the paper's networks of one budget each, and of the dense one.
TARGETS = {depth: tuple(row.values()) for depth, row in paper('spatial')['top1'].items()}


def hooks(cfg):
    return {hook.type: hook for hook in cfg.get('custom_hooks', [])}


def test_the_family_is_complete():
    for depth in (8, 14, 20, 26, 32):
        for part in ('', '_spatial', '_spatial-b30', '_spatial-b50', '_spatial-b70'):
            assert f'spatial/resnet{depth}{part}_200e_cifar10' in NAMES
    for depth in TARGETS:
        assert f'spatial/resnet{depth}_spatial_100e_in1k' in NAMES


def expected_budgets(name):
    if 'digits' in name:
        return (0.3, 0.5, 0.7, 1.0)
    if (single := re.search(r'-b(\d+)_', name)) is not None:
        return (int(single[1]) / 100,)
    if (spread := re.search(r'-r(\d+)_', name)) is not None:
        half = int(spread[1]) / 200
        return (round(0.5 - half, 2), 0.5, round(0.5 + half, 2))
    return (0.3, 0.5, 0.7)


@pytest.mark.parametrize('name', SPATIAL)
def test_budgets_and_hooks(name):
    cfg, model = load(name), build(name)
    budgets = expected_budgets(name)
    assert model.backbone.budgets == budgets
    points = [point.name for point in operating_points(model)]
    masked = [f'budget={budget}' for budget in budgets if budget < 1]
    assert points == [*masked, 'dense']
    depth = int(re.search(r'resnet(\d+)', name)[1])
    assert model.backbone.depth == depth
    schedule = hooks(cfg)['mmdyn.BudgetScheduleHook']
    if isinstance(targets := schedule.get('targets'), dict):
        assert list(targets) == [p.name for p in trained_operating_points(model)]
        assert tuple(targets.values()) == TARGETS[depth][:3]
    if schedule.get('awareness', 'none') != 'none':
        assert cfg.val_cfg.type == 'mmdyn.OperatingPointValLoop'
    assert cfg.find_unused_parameters
    assert cfg.test_cfg.type == 'mmdyn.OperatingPointTestLoop'


@pytest.mark.parametrize('depth', sorted(TARGETS))
def test_docstring_has_the_papers_accuracies(depth):
    low, middle, high, dense = (f'{value:.2f}' for value in TARGETS[depth])
    text = ' '.join(docstring(f'spatial/resnet{depth}_spatial_100e_in1k').split())
    assert f'top-1 {low}, {middle} and {high} % (dense: {dense})' in text


def test_table_of_the_readme():
    found = {
        row[0].strip('`'): row[1:] for row in table_rows('configs/spatial/README.md')
    }
    for depth, targets in TARGETS.items():
        name = f'resnet{depth}_spatial_100e_in1k'
        top1, params, gmacs = found[f'{name}.py']
        model = build(f'spatial/{name}')
        assert top1 == ', '.join(f'{target:.2f}' for target in targets)
        assert params == f'{sum(p.numel() for p in model.parameters()) / 1e6:.2f}'
        assert gmacs == in_units(macs(f'spatial/{name}'), gmacs)


@pytest.mark.parametrize(
    ('name', 'change'),
    [
        ('l1', dict(awareness='l1')),
        ('unweighed', dict(awareness='none')),
        ('t1', dict(temperature=1)),
        ('t5', dict(temperature=5)),
        ('t20', dict(temperature=20)),
        ('no-teacher', None),
        ('b70-teacher', dict(teacher_point='budget=0.7')),
    ],
)
def test_ablations_change_what_their_names_say(name, change):
    base, cfg = (
        load('spatial/resnet20_spatial_200e_cifar10'),
        load(f'spatial/resnet20_spatial-{name}_200e_cifar10'),
    )
    assert cfg.model == base.model
    found = {}
    for kind, settings in hooks(cfg).items():
        before = hooks(base)[kind]
        found.update({k: v for k, v in settings.items() if before.get(k) != v})
    if change is None:
        assert 'mmdyn.DistillationHook' not in hooks(cfg)
        change = {}
    files = ('teacher', 'checkpoint')
    assert {k: v for k, v in found.items() if k not in files} == change
    if 'teacher' in found:
        assert (ROOT / found['teacher']).is_file()


@pytest.mark.parametrize('name', [n for n in SPATIAL if 'cifar10' in n])
def test_masked_training_starts_from_a_network_that_a_config_trains(name):
    start = Path(load(name).load_from)
    dense = f'spatial/{start.parent.name}'
    assert dense in DENSE
    assert start.name == f'epoch_{load(dense).train_cfg.max_epochs}.pth'


def test_crops_have_no_blank_borders(mmpretrain_scope):
    image = np.full((32, 32, 3), 200, dtype=np.uint8)
    crops = [
        [
            s
            for s in load(name).train_dataloader.dataset.pipeline
            if s.type == 'RandomCrop'
        ]
        for name in SPATIAL
        if 'cifar10' in name
    ]
    for transforms in {str(each): each for each in crops}.values():
        crops = [Compose(transforms)(dict(img=image))['img'] for _ in range(20)]
        assert all(crop.shape == (32, 32, 3) and crop.min() == 200 for crop in crops)


def test_crops_shift_the_image_in_every_direction(mmpretrain_scope):
    pipeline = load('spatial/resnet20_200e_cifar10').train_dataloader.dataset.pipeline
    transform = Compose([s for s in pipeline if s.type == 'RandomCrop'])
    image = np.arange(32 * 32, dtype=np.uint16).reshape(32, 32, 1)
    centres = [transform(dict(img=image))['img'][16, 16].item() for _ in range(300)]
    shifts = {(c // 32 - 16, c % 32 - 16) for c in centres}
    assert {dy for dy, _ in shifts} == {dx for _, dx in shifts} == set(range(-4, 5))


@pytest.mark.parametrize('name', SPATIAL)
def test_config_survives_being_dumped(name, tmp_path, monkeypatch):
    # Without its line breaks, which take most of the time.
    unchanged = 'yapf.yapflib.yapf_api.FormatCode', lambda text, **_: (text, True)
    monkeypatch.setattr(*unchanged)
    cfg = load(name)
    cfg.dump(tmp_path / 'dumped.py')
    again = Config.fromfile(tmp_path / 'dumped.py')
    assert hooks(again) == hooks(cfg)
