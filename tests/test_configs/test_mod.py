"""Every config of configs/mod builds the network that its docstring and metafile name."""

import ast
import re
from pathlib import Path

import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.registry import MODELS

from mmdyn import count_macs

FOLDER = Path(__file__).parents[2] / 'configs' / 'mod'
CONFIGS = sorted(path.stem for path in FOLDER.glob('*.py'))
META = yaml.safe_load((FOLDER / 'metafile.yml').read_text())
ENTRIES = {entry['Name']: entry for entry in META['Models']}
# 16,254,169 parameters are 16.25 M; the paper prints 16.26.
PAPERS_OWN_SLIP = {'resnet50_mod_200e_cifar100': '16.26'}


def docstring(name):
    return ast.get_docstring(ast.parse((FOLDER / f'{name}.py').read_text()))


@pytest.mark.parametrize('name', CONFIGS)
def test_metafile_and_docstring_tell_the_truth(name, mmpretrain_scope):
    cfg = Config.fromfile(FOLDER / f'{name}.py')
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    model.eval()
    entry = ENTRIES[name]
    assert entry['Config'] == f'configs/mod/{name}.py'
    size = 224 if name.endswith('in1k') else 32
    params = sum(p.numel() for p in model.parameters())
    macs = count_macs(model, (3, size, size))
    assert (entry['Metadata']['Parameters'], entry['Metadata']['FLOPs']) == (params, macs)
    text = docstring(name)
    assert f'configs/mod/{name}.py' in text  # the command
    if stated := re.search(r'([\d.]+) M\s+parameters', text):
        assert stated[1] == PAPERS_OWN_SLIP.get(name, f'{params / 1e6:.2f}')
    if stated := re.search(r'([\d.]+) ([GM])MACs', text):
        assert macs / dict(G=1e9, M=1e6)[stated[2]] == pytest.approx(
            float(stated[1]), rel=0.015
        )


def test_metafile_lists_just_the_configs():
    assert sorted(ENTRIES) == CONFIGS


def test_the_family_is_complete():
    """Tables 5 to 9 and 11 of the paper: every network and every ablation."""
    imagenet = [n for n in CONFIGS if re.fullmatch(r'resnet\d+_mod_100e_in1k', n)]
    cifar = [n for n in CONFIGS if re.fullmatch(r'.+_mod_200e_cifar100?', n)]
    table_8 = [n for n in CONFIGS if re.fullmatch(r'resnet50_mod(-c\d+)?(-op)?_.+', n)]
    table_8 = [n for n in table_8 if n.endswith('in1k')]
    table_9 = [n for n in CONFIGS if '_mod-lk_' in n]
    assert [len(imagenet), len(cifar), len(table_8), len(table_9)] == [9, 10, 12, 3]


@pytest.mark.parametrize('name', CONFIGS)
def test_ablations_are_one_line(name):
    """Divisor and fusion in the name are those of the backbone."""
    cfg = Config.fromfile(FOLDER / f'{name}.py').model.backbone
    divisor = re.search(r'-c(\d+)', name)
    fusion = 'last' if '-lk' in name else 'original' if '-op' in name else 'first'
    assert cfg.get('fusion', 'first') == fusion
    assert cfg.get('divisor') == (int(divisor[1]) if divisor else None)


@pytest.mark.parametrize('name', [n for n in CONFIGS if 'cifar' in n])
def test_cifar_epochs_are_not_chosen_on_the_test_set(name):
    cfg = Config.fromfile(FOLDER / f'{name}.py')
    if 'folder' in name:
        assert cfg.default_hooks.checkpoint.get('save_best') is None
        return
    train, val = cfg.train_dataloader.dataset, cfg.val_dataloader.dataset
    assert train.type == val.type == ('CIFAR100' if '100' in name else 'CIFAR10')
    assert (train.split, val.split) == ('train', 'train')
    assert (train.indices, val.indices) == (45000, -5000)
    assert cfg.test_dataloader.dataset.split == 'test'
