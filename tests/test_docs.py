"""The configs that the documentation tells users to write."""

import re

import pytest
import torch
from helpers.paths import ROOT
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mmdyn import operating_points

PAGE = (ROOT / 'docs' / 'swap_a_backbone.md').read_text()
BLOCKS = re.findall(r'```python\n# (?:before|after)\n(.*?)```', PAGE, re.DOTALL)
BUDGETS = ['budget=0.3', 'budget=0.5', 'budget=0.7', 'dense']
POINTS = {  # the last part that a block contains tells
    '_base_': ['dense'],
    'SpatialResNet': BUDGETS,
    'MultiExitClassifier': ['exit=1', 'exit=2', 'exit=3', 'exit=4', 'quick', 'careful'],
    'MultiExitEncoderDecoder': ['exit=1', 'exit=2', 'exit=3', 'quick', 'careful'],
    'CNMM': ['keep=30', 'keep=50', 'keep=70', 'dense'],
}
FCN = 'fcn_r50-d8_4xb2-80k_cityscapes-512x1024.py'


def read(block, folder):
    """The config of a block, in a folder with the file of mmseg that it may inherit."""
    base = ROOT / 'configs' / '_base_' / 'mmseg' / FCN
    (folder / FCN).write_text(f'_base_ = {str(base)!r}')
    (folder / 'config.py').write_text(block)
    return Config.fromfile(folder / 'config.py')


@pytest.mark.parametrize('block', BLOCKS)
def test_config_builds(block, tmp_path):
    cfg = read(block, tmp_path)
    init_default_scope(cfg.default_scope)
    # mmpretrain's ResNets look at numbers while they are built.
    with torch.device('cpu' if 'mmpretrain' in block else 'meta'):
        model = MODELS.build(cfg.model)
    expected = [points for part, points in POINTS.items() if part in block][-1]
    assert [point.name for point in operating_points(model)] == expected


def test_blocks_are_found():
    tasks = [
        task
        for block in BLOCKS
        for task in ('mmpretrain', 'fcn', 'mmdet')
        if task in block
    ]
    assert tasks == ['mmpretrain'] * 4 + ['fcn'] * 3 + ['mmdet'] * 3


PAGES = [ROOT / 'README.md', *ROOT.glob('docs/*.md'), *ROOT.glob('configs/*/README.md')]


@pytest.mark.parametrize('page', sorted(PAGES))
def test_links_lead_somewhere(page):
    for target in re.findall(r'\]\(((?!http)[^)#]+)\)', page.read_text()):
        assert (page.parent / target).exists(), target
