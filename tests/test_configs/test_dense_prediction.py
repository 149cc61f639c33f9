"""Configs of segmentation and detection change what the method changes, and no more."""

import re
from pathlib import Path

import pytest
import torch
from helpers.configs import CONFIGS, build, load, names
from helpers.rooms import needs
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope

from mmdyn import operating_points
from mmdyn.registry import MODELS

NAMES = [*names('segmentation'), *names('detection')]
BENCHMARKS = [name for name in NAMES if 'digits' not in name]
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
        init_default_scope('mmseg' if name.startswith('segmentation') else 'mmdet')


def stock_of(name):
    """The stock config that one for a benchmark inherits."""
    text = (CONFIGS / f'{name}.py').read_text()
    base = re.search(r"^_base_ = '(.+)'", text, re.MULTILINE)[1]
    if base.startswith('fcn_'):  # another of ours
        return stock_of(f'segmentation/{Path(base).stem}')
    if '::' in base:
        return Config.fromstring(f'_base_ = {base!r}', '.py')
    return Config.fromfile((CONFIGS / name).parent / base)


@pytest.mark.parametrize(
    ('part', 'networks'),
    [
        pytest.param(
            '_mod_',
            ('r50-d8_mod', 'r75-d8_mod', 'r86-d8_mod', 'r50_fpn_mod'),
            marks=needs('ResNetMoD'),
        ),
        pytest.param(
            '_spatial_',
            ('r50-d8_spatial', 'r50_fpn_spatial'),
            marks=needs('SpatialResNet'),
        ),
        pytest.param(
            '_cnmm_',
            ('cnmm', 'cnmm_fpn'),
            marks=needs('CNMM', 'MultiExitEncoderDecoder'),
        ),
        pytest.param(
            '_multi-exit_',
            ('r50-d8_multi-exit',),
            marks=needs('MultiExitEncoderDecoder'),
        ),
    ],
)
def test_the_family_of_each_method_is_complete(part, networks):
    expected = set()
    for network in networks:
        small = re.sub(r'^r\d+', 'r18', network)
        if 'fpn' in network:
            expected |= {f'detection/faster-rcnn_{network}_1x_voc0712'}
            expected |= {f'detection/faster-rcnn_{small}_digits'}
        else:
            for size in ('512x1024', '769x769'):
                expected |= {f'segmentation/fcn_{network}_4xb2-80k_cityscapes-{size}'}
            expected |= {f'segmentation/fcn_{small}_digits'}
    assert {name for name in NAMES if part in name} == expected


@pytest.mark.parametrize('name', NAMES)
def test_names_tell_the_method(name):
    cfg = load(name)
    types = {cfg.model.type, cfg.model.backbone.type}
    wanted = {t for part, t in METHODS.items() if part in name}
    if 'cnmm' in name and name.startswith('segmentation'):
        wanted.add('mmdyn.MultiExitEncoderDecoder')
    assert {each for each in types if each.startswith('mmdyn.')} == wanted
    depth = re.search(r'_r(\d+)', name)
    assert cfg.model.backbone.get('depth') == (int(depth[1]) if depth else None)
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
    with torch.device('meta'):
        stock = revert_sync_batchnorm(MODELS.build(stock_of(name).model.backbone))
        image = torch.empty(1, 3, 64, 128)
    stock.eval()
    found, expected = (
        [tuple(out.shape) for out in backbone(image)]
        for backbone in (build(name).backbone, stock)
    )
    assert found == expected


@pytest.mark.needs_mmcv_ops
@pytest.mark.parametrize('name', BENCHMARKS)
def test_operating_points(name):
    names = [point.name for point in operating_points(build(name))]
    thresholds = ['quick', 'balanced', 'careful']
    expected = {
        '_mod_': ['dense'],
        '_spatial_': ['budget=0.3', 'budget=0.5', 'budget=0.7', 'dense'],
        '_multi-exit_': ['exit=1', 'exit=2', 'exit=3', *thresholds],
        'fcn_cnmm_': [f'exit={number}' for number in range(1, 5)],
        'rcnn_cnmm_': ['keep=30', 'keep=50', 'keep=70', 'dense'],
    }
    assert [names] == [points for part, points in expected.items() if part in name]
