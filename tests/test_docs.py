"""The configs that the documentation tells users to write."""

import re
from pathlib import Path

import mmseg
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from mmdyn import operating_points

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / 'docs' / 'swap_a_backbone.md').read_text()
# On the onedl stack `mmseg::` looks for a distribution that is named otherwise.
SEGMENTOR = str(Path(mmseg.__file__).parent / '.mim/configs/_base_/models/fcn_r50-d8.py')
BLOCKS = re.findall(r'```python\n# (?:before|after)\n(.*?)```', PAGE, re.DOTALL)


@pytest.mark.parametrize('block', BLOCKS)
def test_config_builds(block, tmp_path, mmpretrain_scope):
    (tmp_path / 'config.py').write_text(block)
    cfg = Config.fromfile(tmp_path / 'config.py')
    model = MODELS.build(cfg.model)
    names = [point.name for point in operating_points(model)]
    if 'MultiExit' in block:
        assert names == ['exit=1', 'exit=2', 'exit=3', 'exit=4', 'quick', 'careful']
    elif 'SpatialResNet' in block:
        assert names == ['budget=0.3', 'budget=0.5', 'budget=0.7', 'dense']
    else:
        assert names == ['full']


@pytest.mark.parametrize(
    ('base', 'block'),
    [
        ('mmdet::_base_/models/faster-rcnn_r50_fpn.py', "# mmdet's ResNet\n(.*?)```"),
        (SEGMENTOR, "# mmseg's ResNetV1c\n(.*?)```"),
    ],
)
def test_backbone_of_segmentors_and_detectors(base, block, tmp_path):
    (change,) = re.findall(f'```python\n{block}', PAGE, re.DOTALL)
    (tmp_path / 'config.py').write_text(f'_base_ = {base!r}\n{change}')
    backbone = Config.fromfile(tmp_path / 'config.py').model.backbone
    backbone.norm_cfg = dict(type='BN')  # SyncBN does not run on a CPU
    assert backbone.type == 'mmdyn.ResNetMoD'
    models = [
        MODELS.build({**backbone, 'type': f'mmdyn.{n}'}) for n in ('ResNet', 'ResNetMoD')
    ]
    shapes = [[o.shape for o in model(torch.rand(2, 3, 64, 64))] for model in models]
    assert shapes[0] == shapes[1] and len(shapes[0]) == 4


def test_blocks_are_found():
    assert len(BLOCKS) == 4


PAGES = [ROOT / 'README.md', *ROOT.glob('docs/*.md'), *ROOT.glob('configs/*/README.md')]


@pytest.mark.parametrize('page', sorted(PAGES))
def test_links_lead_somewhere(page):
    for target in re.findall(r'\]\(((?!http)[^)#]+)\)', page.read_text()):
        assert (page.parent / target).exists(), target
