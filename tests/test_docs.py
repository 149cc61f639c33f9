"""The code, links, paths and names in the documentation."""

import pkgutil
import re

import pytest
import torch
from helpers.paths import ROOT
from helpers.rooms import REGISTRIES
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from mmdyn import operating_points
from mmdyn.methods import ROOMS
from mmdyn.models.stages import cut_into_stages

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

about_all_methods = pytest.mark.skipif(
    not {'mod', 'spatial', 'cnmm', 'multi_exit', 'jei'} <= set(ROOMS),
    reason='the pages describe methods that are not here',
)


def read(block, folder):
    """The config of a block, in a folder with the file of mmseg that it may inherit."""
    base = ROOT / 'configs' / '_base_' / 'mmseg' / FCN
    (folder / FCN).write_text(f'_base_ = {str(base)!r}')
    (folder / 'config.py').write_text(block)
    return Config.fromfile(folder / 'config.py')


@about_all_methods
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
    assert len(BLOCKS) == len(re.findall('^# (?:before|after)$', PAGE, re.MULTILINE))
    for task in ('mmpretrain', 'fcn', 'mmdet'):
        assert sum(task in block for block in BLOCKS) >= 2  # before and after


class MyBackbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.part1 = nn.Conv2d(3, 64, 4, stride=4)
        self.part2 = nn.Conv2d(64, 128, 2, stride=2)


@about_all_methods
def test_blocks_of_the_design_run():
    page = (ROOT / 'docs' / 'design.md').read_text()
    block = next(block for block in BLOCKS if 'MultiExitClassifier' in block)
    scope = dict(
        model=MODELS.build(Config.fromstring(block, '.py').model).eval(),
        images=torch.rand(1, 3, 32, 32),
        MyBackbone=MyBackbone,
    )
    for block in re.findall(r'```python\n(.*?)```', page, re.DOTALL):
        exec(block, scope)
    assert scope['logits'].shape == (1, 1000)
    assert scope['model'].operating_point.name == 'exit=2'
    assert [stage.stride for stage in cut_into_stages(MyBackbone())] == [4, 8]


PAGES = [ROOT / 'README.md', *ROOT.glob('docs/*.md'), *ROOT.glob('configs/*/README.md')]
PATH = r'(?<![\w/.-])((?:mmdyn|tools|configs|docs|scripts|tests)/[\w./-]+)(?![\w{<*…])'


@pytest.fixture(params=sorted(PAGES), ids=lambda page: str(page.relative_to(ROOT)))
def page(request):
    return request.param


def heads_of(page):
    """The anchors of a page."""
    heads = re.findall(r'^#+ (.*)$', page.read_text(), re.MULTILINE)
    return {re.sub(r'[^\w -]', '', head.lower()).replace(' ', '-') for head in heads}


def words_in_code(page, pattern):
    """What matches in the code ticks and code blocks of a page."""
    code = re.findall(r'```.*?```|`[^`]+`', page.read_text(), re.DOTALL)
    words = {word for each in code for word in re.findall(pattern, each)}
    # The example of docs/add_a_method.md has a test of its own.
    return {word for word in words if 'slimmable' not in word.lower()}


def exists(name):
    """Whether a dotted name can be imported or is in a registry."""
    try:
        return bool(pkgutil.resolve_name(name))
    except (AttributeError, ImportError):
        return any(each.get(name) for each in REGISTRIES)


def test_links_lead_somewhere(page):
    for link in re.findall(r'\]\(((?!http)[^)]+)\)', page.read_text()):
        path, _, anchor = link.partition('#')
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in heads_of(target), link


@about_all_methods
def test_paths_exist(page):
    paths = words_in_code(page, PATH)
    assert [path for path in paths if not (ROOT / path).exists()] == []


@about_all_methods
def test_names_exist(page):
    names = words_in_code(page, r'\bmmdyn\.[\w.]*\w')
    assert [name for name in names if not exists(name)] == []


@pytest.mark.parametrize('file', sorted(ROOT.glob('configs/*/metafile.yml')))
def test_files_of_metafiles_exist(file):
    paths = re.findall(PATH, file.read_text())
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []
