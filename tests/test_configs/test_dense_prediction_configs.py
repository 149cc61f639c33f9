"""Configs of segmentation and detection change what the method changes, and no more."""

import ast
import re
from pathlib import Path

import pytest
import torch
import yaml
from helpers.paths import CONFIGS
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope

from mmdyn import count_macs, operating_points
from mmdyn.registry import HOOKS

ROOT = CONFIGS
SCOPES = dict(segmentation='mmseg', detection='mmdet')
CONFIGS = [
    f'{folder}/{path.stem}'
    for folder in SCOPES
    for path in sorted((ROOT / folder).glob('*.py'))
]
BENCHMARKS = [name for name in CONFIGS if 'digits' not in name]
ENTRIES = {
    f'{folder}/{entry["Name"]}': entry
    for folder in SCOPES
    for entry in yaml.safe_load((ROOT / folder / 'metafile.yml').read_text())['Models']
}
METHODS = {  # what a name says, and the backbone or model that is then in the config
    '_mod_': 'mmdyn.ResNetMoD',
    '_spatial_': 'mmdyn.SpatialResNet',
    '_cnmm_': 'mmdyn.CNMM',
    '_multi-exit_': 'mmdyn.MultiExitEncoderDecoder',
}


@pytest.fixture(autouse=True)
def _scope_of_the_config(request):
    if 'name' in request.fixturenames:
        name = request.getfixturevalue('name')
        init_default_scope(SCOPES[name.split('/')[0]])


def load(name):
    return Config.fromfile(ROOT / f'{name}.py')


def stock_of(name):
    """The stock config that one for a benchmark inherits."""
    text = (ROOT / f'{name}.py').read_text()
    base = re.search(r"^_base_ = '(.+)'", text, re.MULTILINE)[1]
    if base.startswith('fcn_'):  # another of ours
        return stock_of(f'segmentation/{Path(base).stem}')
    if '::' in base:
        return Config.fromstring(f'_base_ = {base!r}', '.py')
    return Config.fromfile((ROOT / name).parent / base)


def build(cfg):
    with torch.device('meta'):
        model = revert_sync_batchnorm(MODELS.build(cfg.model))
    model.eval()
    return model


def size_of(name):
    if 'digits' in name:
        return 96, 192
    return (769, 769) if '769x769' in name else (512, 1024)


@pytest.mark.needs_mmcv_ops
@pytest.mark.parametrize('name', CONFIGS)
def test_metafile_tells_the_truth(name):
    """The cost of a detector depends on what it proposes: no FLOPs there."""
    model, entry = build(load(name)), ENTRIES[name]
    expected = dict(Parameters=sum(p.numel() for p in model.parameters()))
    if name.startswith('segmentation'):
        expected['FLOPs'] = count_macs(model, (3, *size_of(name)))
    metadata = entry['Metadata']
    assert {key: metadata.get(key) for key in ('Parameters', 'FLOPs')} == {
        'FLOPs': None,
        **expected,
    }
    assert entry['Config'] == f'configs/{name}.py'
    documentation = ast.get_docstring(ast.parse((ROOT / f'{name}.py').read_text()))
    assert f'configs/{name}.py' in documentation  # the command


def test_metafiles_list_just_the_configs():
    assert sorted(ENTRIES) == sorted(CONFIGS)


def test_the_family_is_complete():
    for size in ('512x1024', '769x769'):
        for network in ('r50-d8_mod', 'r75-d8_mod', 'r86-d8_mod', 'r50-d8_spatial'):
            assert f'segmentation/fcn_{network}_4xb2-80k_cityscapes-{size}' in CONFIGS
        for network in ('cnmm', 'r50-d8_multi-exit'):
            assert f'segmentation/fcn_{network}_4xb2-80k_cityscapes-{size}' in CONFIGS
    for network in ('r50_fpn_mod', 'r50_fpn_spatial', 'cnmm_fpn'):
        assert f'detection/faster-rcnn_{network}_1x_voc0712' in CONFIGS
        digits = network.replace('r50', 'r18')
        assert f'detection/faster-rcnn_{digits}_digits' in CONFIGS
    for network in ('r18-d8_mod', 'r18-d8_spatial', 'cnmm', 'r18-d8_multi-exit'):
        assert f'segmentation/fcn_{network}_digits' in CONFIGS


@pytest.mark.parametrize('name', CONFIGS)
def test_names_tell_the_method(name):
    cfg = load(name)
    types = {cfg.model.type, cfg.model.backbone.type}
    wanted = {t for part, t in METHODS.items() if part in name}
    if 'cnmm' in name and name.startswith('segmentation'):
        wanted.add('mmdyn.MultiExitEncoderDecoder')
    assert {each for each in types if each.startswith('mmdyn.')} == wanted
    depth = re.search(r'_r(\d+)', name)
    assert cfg.model.backbone.get('depth') == (int(depth[1]) if depth else None)
    for hook in cfg.get('custom_hooks', []):
        HOOKS.get(hook.pop('type'))(**hook)  # its arguments are valid
    if 'spatial' in name:
        assert cfg.find_unused_parameters
    if 'digits' not in name:
        assert cfg.test_cfg.type == 'mmdyn.OperatingPointTestLoop'


@pytest.mark.parametrize('name', BENCHMARKS)
def test_all_else_is_stock(name):
    cfg, stock = load(name), stock_of(name)
    ours = {'model', 'load_from', 'custom_hooks', 'find_unused_parameters', 'val_cfg'}
    if 'cnmm' in name:  # γ has no weight decay; names that the config uses itself
        ours |= {'optim_wrapper', 'norm_cfg', 'exit_head'}
        assert cfg.optim_wrapper.optimizer == stock.optim_wrapper.optimizer
    changed = {
        key for key in {*cfg, *stock} if cfg.get(key, None) != stock.get(key, None)
    }
    assert changed <= ours | {'test_cfg'}
    swapped = {'type', 'backbone', 'pretrained', 'exits', 'policy'}
    if 'fcn_cnmm' in name:
        swapped |= {'decode_head', 'auxiliary_head'}
    changed = {
        key
        for key in {*cfg.model, *stock.model}
        if cfg.model.get(key, None) != stock.model.get(key, None)
    }
    assert 'backbone' in changed | swapped and changed <= swapped


@pytest.mark.needs_mmcv_ops
@pytest.mark.parametrize('name', [n for n in BENCHMARKS if 'fcn_cnmm' not in n])
def test_necks_and_heads_get_the_maps_they_know(name):
    """Channels and strides are those of the stock backbone, at each of its outputs."""
    image = torch.empty(1, 3, 64, 128, device='meta')
    found, expected = (
        [tuple(out.shape) for out in build(cfg).backbone(image)]
        for cfg in (load(name), stock_of(name))
    )
    assert found == expected


@pytest.mark.needs_mmcv_ops
@pytest.mark.parametrize('name', [n for n in CONFIGS if 'digits' not in n])
def test_operating_points(name):
    names = [point.name for point in operating_points(build(load(name)))]
    thresholds = ['quick', 'balanced', 'careful']
    expected = {
        '_mod_': ['dense'],
        '_spatial_': ['budget=0.3', 'budget=0.5', 'budget=0.7', 'dense'],
        '_multi-exit_': ['exit=1', 'exit=2', 'exit=3', *thresholds],
        'fcn_cnmm_': [f'exit={number}' for number in range(1, 5)],
        'rcnn_cnmm_': ['keep=30', 'keep=50', 'keep=70', 'dense'],
    }
    assert [names] == [points for part, points in expected.items() if part in name]
