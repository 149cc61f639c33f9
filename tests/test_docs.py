"""The configs that the documentation tells users to write."""

import re
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import MODELS

from mmdyn import operating_points

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / 'docs' / 'swap_a_backbone.md').read_text()
BLOCKS = re.findall(r'```python\n# (?:before|after)\n(.*?)```', PAGE, re.DOTALL)


@pytest.mark.parametrize('block', BLOCKS)
def test_config_builds(block, tmp_path, mmpretrain_scope):
    (tmp_path / 'config.py').write_text(block)
    cfg = Config.fromfile(tmp_path / 'config.py')
    model = MODELS.build(cfg.model)
    names = [point.name for point in operating_points(model)]
    if 'MultiExit' in block:
        assert names == ['exit=1', 'exit=2', 'exit=3', 'exit=4', 'quick', 'careful']
    else:
        assert names == ['full']


def test_blocks_are_found():
    assert len(BLOCKS) == 3


@pytest.mark.parametrize('page', sorted(ROOT.glob('docs/*.md')) + [ROOT / 'README.md'])
def test_links_lead_somewhere(page):
    for target in re.findall(r'\]\(((?!http)[^)#]+)\)', page.read_text()):
        assert (page.parent / target).exists(), target
