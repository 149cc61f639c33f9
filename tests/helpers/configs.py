"""The configs of the project: each is read once, and each distinct model built once."""

import ast
import copy
from functools import cache

import torch
import yaml
from helpers.paths import CONFIGS, PAPERS, ROOT
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope

from mmdyn import count_macs

FOLDERS = sorted(path.parent.name for path in CONFIGS.glob('*/metafile.yml'))


def names(folder):
    """The configs of a folder, as ``'folder/config'``."""
    return sorted(f'{folder}/{path.stem}' for path in (CONFIGS / folder).glob('*.py'))


@cache
def _read(name):
    return Config.fromfile(CONFIGS / f'{name}.py')


def load(name):
    """A config, which may be changed."""
    return copy.deepcopy(_read(name))


@cache
def docstring(name):
    return ast.get_docstring(ast.parse((CONFIGS / f'{name}.py').read_text()))


@cache
def entries(folder):
    """What the metafile of a folder says, a dict for each config."""
    models = yaml.safe_load((CONFIGS / folder / 'metafile.yml').read_text())['Models']
    return {f'{folder}/{entry["Name"]}': entry for entry in models}


@cache
def paper(name):
    """Figures of a paper, of tests/papers."""
    return yaml.safe_load((PAPERS / f'{name}.yml').read_text())


def image_shape(name):
    """Shape (C, H, W) of the images that a config is for."""
    if name.startswith(('segmentation', 'detection')):
        size = (96, 192) if 'digits' in name else (512, 1024)
        return 3, *((769, 769) if '769x769' in name else size)
    size = 224 if 't2t' in name or name.endswith('in1k') else 32
    return (1 if 'digits' in name else 3), size, size


def build(name):
    """The model of a config without values, in evaluation mode; it must not be changed.

    T2T-ViTs have values: autocast, which their performers switch off, needs them.
    """
    cfg = _read(name)
    init_default_scope(cfg.default_scope)
    if (key := _key(name)) not in _models:
        with torch.device('cpu' if 't2t' in name else 'meta'):
            model = revert_sync_batchnorm(MODELS.build(copy.deepcopy(cfg.model)))
        model.eval()  # not chained: mmdet's does not return the model
        _models[key] = model
    return _models[key]


def macs(name):
    """MACs of an image of a config at the dense point of its model."""
    key = _key(name), image_shape(name)
    if key not in _macs:
        _macs[key] = count_macs(build(name), image_shape(name))
    return _macs[key]


def _key(name):
    return _read(name).default_scope, str(_read(name).model)


_models, _macs = {}, {}


def table_rows(page):
    """The cells of every row of the tables of a page, a path inside the project."""
    lines = (ROOT / page).read_text().splitlines()
    rows = [line.strip('|').split('|') for line in lines if line.startswith('|')]
    return [tuple(cell.strip() for cell in row) for row in rows]


def in_units(count, printed):
    """A count as a page prints it: in G or M, if it says so, and with as many digits."""
    number, _, unit = printed.partition(' ')
    digits = len(number.partition('.')[2])
    return f'{count / (1e6 if unit == "M" else 1e9):.{digits}f} {unit}'.strip()
