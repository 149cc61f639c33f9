"""Every config builds the network that its name and its metafile say."""

import re

import pytest
import yaml
from helpers.configs import (
    FOLDERS,
    build,
    docstring,
    entries,
    load,
    macs,
    names,
)
from helpers.paths import ROOT
from mmengine.registry import init_default_scope

from mmdyn.operating_point import (
    dense_operating_point,
    operating_points,
    trained_operating_points,
)
from mmdyn.registry import HOOKS

DENSE_PREDICTION = ('segmentation', 'detection')
# Folders all of whose docstrings have the command that trains; other docstrings have it
# where a family begins.
WITH_COMMANDS = ('mod', 'spatial', *DENSE_PREDICTION)
ALL = [
    pytest.param(name, marks=pytest.mark.needs_mmcv_ops)
    if folder in DENSE_PREDICTION
    else name
    for folder in FOLDERS
    for name in names(folder)
]


@pytest.mark.parametrize('name', ALL)
def test_metafile_tells_the_truth(name):
    """The cost of a detector depends on what it proposes: no FLOPs there."""
    folder = name.split('/')[0]
    model, entry = build(name), entries(folder)[name]
    metadata = entry['Metadata']
    assert entry['Config'] == f'configs/{name}.py'
    assert metadata['Parameters'] == sum(p.numel() for p in model.parameters())
    assert metadata.get('FLOPs') == (None if folder == 'detection' else macs(name))
    points = [point.name for point in operating_points(model)]
    assert len(set(points)) == len(points)
    assert dense_operating_point(model).name in points
    assert trained_operating_points(model)
    commands = re.findall(r'configs/\S+\.py', docstring(name))
    assert all((ROOT / command).is_file() for command in commands)
    if folder in WITH_COMMANDS:
        assert f'configs/{name}.py' in commands


@pytest.mark.parametrize('folder', FOLDERS)
def test_metafile_lists_just_the_configs(folder):
    assert sorted(entries(folder)) == names(folder)
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import']
    assert f'configs/{folder}/metafile.yml' in index


def test_model_index_lists_just_the_metafiles():
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import']
    assert sorted(index) == [f'configs/{folder}/metafile.yml' for folder in FOLDERS]


@pytest.mark.parametrize('folder', FOLDERS)
def test_hooks_and_loops_are_valid(folder):
    for name in names(folder):
        cfg = load(name)
        init_default_scope(cfg.default_scope)
        for hook in cfg.get('custom_hooks', []):
            HOOKS.build(hook)  # its arguments are valid
        if len(operating_points(build(name))) > 1:
            assert cfg.test_cfg.type == 'mmdyn.OperatingPointTestLoop'


@pytest.mark.parametrize('folder', FOLDERS)
def test_cifar_epochs_are_not_chosen_on_the_test_set(folder):
    for name in names(folder):
        cfg = load(name)
        train, val = cfg.train_dataloader.dataset, cfg.val_dataloader.dataset
        if train.type in ('CIFAR10', 'CIFAR100'):
            assert train.type == val.type == f'CIFAR{re.search(r"cifar(10+)$", name)[1]}'
            assert (train.split, val.split) == ('train', 'train')
            assert (train.indices, val.indices) == (45000, -5000)
            assert cfg.test_dataloader.dataset.split == 'test'
