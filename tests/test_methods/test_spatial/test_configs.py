"""Every config of configs/spatial builds the network that its name and metafile say."""

import ast
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from helpers.paths import CONFIGS
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import MODELS

from mmdyn import count_macs, operating_points
from mmdyn.operating_point import untrained_operating_points
from mmdyn.registry import HOOKS

FOLDER = CONFIGS / 'spatial'
CONFIGS = sorted(path.stem for path in FOLDER.glob('*.py'))
META = yaml.safe_load((FOLDER / 'metafile.yml').read_text())
ENTRIES = {entry['Name']: entry for entry in META['Models']}
DENSE = [name for name in CONFIGS if 'spatial' not in name]
SPATIAL = [name for name in CONFIGS if 'spatial' in name]
# Top-1 of the paper's single-budget networks, and of the dense one.
TARGETS = {
    18: (65.61, 67.11, 68.87, 69.76),
    50: (72.30, 74.96, 75.50, 76.13),
    101: (75.72, 76.98, 77.72, 77.34),
}


def load(name):
    return Config.fromfile(FOLDER / f'{name}.py')


def docstring(name):
    return ast.get_docstring(ast.parse((FOLDER / f'{name}.py').read_text()))


def hooks(cfg):
    return {hook.type: hook for hook in cfg.get('custom_hooks', [])}


@pytest.mark.parametrize('name', CONFIGS)
def test_metafile_tells_the_truth(name, mmpretrain_scope):
    """Operations are those of the dense point: budgets are shares of its branches."""
    cfg = load(name)
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    model.eval()
    entry = ENTRIES[name]
    assert entry['Config'] == f'configs/spatial/{name}.py'
    size = 224 if name.endswith('in1k') else 32
    shape = (1 if 'digits' in name else 3, size, size)
    params = sum(p.numel() for p in model.parameters())
    metadata = entry['Metadata']
    assert (metadata['Parameters'], metadata['FLOPs']) == (
        params,
        count_macs(model, shape),
    )
    assert f'configs/spatial/{name}.py' in docstring(name)  # the command


def test_metafile_lists_just_the_configs():
    assert sorted(ENTRIES) == CONFIGS


def test_the_family_is_complete():
    for depth in (8, 14, 20, 26, 32):
        for part in ('', '_spatial', '_spatial-b30', '_spatial-b50', '_spatial-b70'):
            assert f'resnet{depth}{part}_200e_cifar10' in CONFIGS
    for depth in TARGETS:
        assert f'resnet{depth}_spatial_100e_in1k' in CONFIGS


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
def test_budgets_and_hooks(name, mmpretrain_scope):
    cfg = load(name)
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    assert model.backbone.budgets == expected_budgets(name)
    depth = int(re.match(r'resnet(\d+)', name)[1])
    assert model.backbone.depth == depth
    for hook in cfg.custom_hooks:
        HOOKS.build(hook)  # its arguments are valid
    schedule = hooks(cfg)['mmdyn.BudgetScheduleHook']
    if isinstance(targets := schedule.get('targets'), dict):
        trained = [
            p.name
            for p in operating_points(model)
            if p not in untrained_operating_points(model)
        ]
        assert list(targets) == trained
        assert tuple(targets.values()) == TARGETS[depth][:3]
    if schedule.get('awareness', 'none') != 'none':
        assert cfg.val_cfg.type == 'mmdyn.OperatingPointValLoop'
    assert cfg.find_unused_parameters
    assert cfg.test_cfg.type == 'mmdyn.OperatingPointTestLoop'


@pytest.mark.parametrize('depth', sorted(TARGETS))
def test_docstring_has_the_papers_accuracies(depth):
    low, middle, high, dense = (f'{value:.2f}' for value in TARGETS[depth])
    text = ' '.join(docstring(f'resnet{depth}_spatial_100e_in1k').split())
    assert f'top-1 {low}, {middle} and {high} % (dense: {dense})' in text


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
        load('resnet20_spatial_200e_cifar10'),
        load(f'resnet20_spatial-{name}_200e_cifar10'),
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
        assert (FOLDER.parents[1] / found['teacher']).is_file()


@pytest.mark.parametrize('name', [n for n in SPATIAL if 'cifar10' in n])
def test_masked_training_starts_from_a_network_that_a_config_trains(name):
    cfg = load(name)
    start = Path(cfg.load_from)
    assert start.parent.name in DENSE
    assert start.name == f'epoch_{load(start.parent.name).train_cfg.max_epochs}.pth'


@pytest.mark.parametrize('name', [n for n in SPATIAL if 'cifar10' in n])
def test_crops_have_no_blank_borders(name, mmpretrain_scope):
    pipeline = load(name).train_dataloader.dataset.pipeline
    transform = Compose([s for s in pipeline if s.type == 'RandomCrop'])
    image = np.full((32, 32, 3), 200, dtype=np.uint8)
    crops = [transform(dict(img=image))['img'] for _ in range(20)]
    assert all(crop.shape == (32, 32, 3) and crop.min() == 200 for crop in crops)


def test_crops_shift_the_image_in_every_direction(mmpretrain_scope):
    pipeline = load('resnet20_200e_cifar10').train_dataloader.dataset.pipeline
    transform = Compose([s for s in pipeline if s.type == 'RandomCrop'])
    image = np.arange(32 * 32, dtype=np.uint16).reshape(32, 32, 1)
    centres = [transform(dict(img=image))['img'][16, 16].item() for _ in range(300)]
    shifts = {(c // 32 - 16, c % 32 - 16) for c in centres}
    assert {dy for dy, _ in shifts} == {dx for _, dx in shifts} == set(range(-4, 5))


@pytest.mark.parametrize('name', [n for n in CONFIGS if n.endswith('e_cifar10')])
def test_cifar_epochs_are_not_chosen_on_the_test_set(name):
    cfg = load(name)
    train, val = cfg.train_dataloader.dataset, cfg.val_dataloader.dataset
    assert train.type == val.type == 'CIFAR10'
    assert (train.split, val.split) == ('train', 'train')
    assert (train.indices, val.indices) == (45000, -5000)
    assert cfg.test_dataloader.dataset.split == 'test'


@pytest.mark.parametrize('name', SPATIAL)
def test_config_survives_being_dumped(name, tmp_path):
    cfg = load(name)
    cfg.dump(tmp_path / 'dumped.py')
    again = Config.fromfile(tmp_path / 'dumped.py')
    assert hooks(again) == hooks(cfg)
