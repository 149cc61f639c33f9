"""The rules of the house: order of imports, rooms, sizes of files, public names."""

import ast
import re
import subprocess
import sys
from statistics import median

import pytest
from helpers.paths import ROOT

import mmdyn
from mmdyn import registry
from mmdyn.methods import ROOMS

ORDER = (  # each may import its own kind and what stands before it
    ('version', 'operating_point', 'registry'),
    ('utils',),
    ('models', 'datasets'),
    ('evaluation',),
    ('visualization',),
    ('engine',),
    ('methods',),
    ('deployment',),
    ('apis',),
    ('__init__',),
)
HEIGHT = {part: height for height, parts in enumerate(ORDER) for part in parts}
NEIGHBOURS = {('jei', 'multi_exit')}  # JEI's gates decide at the exits of multi_exit
LARGE: dict[str, str] = {}  # a file or a class ('models/x.py:Class'), and why it is large
PUBLIC = {
    *('CostMeter', 'DynamicModule', 'OperatingPoint', 'OperatingPointReport'),
    *('at_operating_point', 'count_macs', 'dense_operating_point', '__version__'),
    *('load_operating_points', 'operating_points', 'select_operating_point'),
    'set_operating_point',
}
TREES = {
    path.relative_to(ROOT / 'mmdyn').as_posix(): ast.parse(path.read_text())
    for path in sorted((ROOT / 'mmdyn').rglob('*.py'))
    if '.mim' not in path.parts
}


def imported(tree):
    """Modules of mmdyn that a file imports, inside functions too, as tuples of names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f'relative import of {node.module}'
            names = [f'{node.module}.{alias.name}' for alias in node.names]
        else:
            continue
        for name in names:
            if name.startswith('mmdyn.'):
                yield tuple(name.split('.')[1:])


@pytest.mark.parametrize('file', TREES)
def test_imports_run_downhill(file):
    height = HEIGHT[file.removesuffix('.py').split('/')[0]]
    upwards = [name for name in imported(TREES[file]) if HEIGHT[name[0]] > height]
    assert not upwards


@pytest.mark.parametrize('room', ROOMS)
def test_no_room_imports_another(room):
    for file, tree in TREES.items():
        if file.startswith(f'methods/{room}/'):
            rooms = {name[1] for name in imported(tree) if name[0] == 'methods'}
            assert {(room, other) for other in rooms - {room}} <= NEIGHBOURS, file


def test_the_core_names_no_room():
    classes = [
        name
        for kind in ('MODELS', 'HOOKS', 'LOOPS', 'METRICS', 'DATASETS')
        for name, (module, _) in getattr(registry, kind)._offers.items()
        if module.startswith('mmdyn.methods.')
    ]
    word = re.compile(rf'\b({"|".join(classes)}|methods\.({"|".join(ROOMS)}))\b')
    named = {
        f'{file}: {match[0]}'
        for file in TREES
        if not file.startswith('methods/')
        for match in word.finditer((ROOT / 'mmdyn' / file).read_text())
    }
    assert classes and not named


def test_files_and_classes_are_short():
    lines = {
        file: len((ROOT / 'mmdyn' / file).read_text().splitlines()) for file in TREES
    }
    large = {file for file, length in lines.items() if length > 250}
    for file, tree in TREES.items():
        classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
        large |= {
            f'{file}:{node.name}'
            for node in classes
            if node.end_lineno - node.lineno >= 160
        }
    assert large == set(LARGE)
    assert median(lines.values()) <= 100


@pytest.mark.parametrize(
    ('code', 'absent'),
    [
        ('import mmdyn', ('torch', 'mmengine', 'mmcv', 'mmpretrain', 'mmseg', 'mmdet')),
        ('import mmdyn.apis', ('matplotlib', 'mmpretrain', 'mmseg', 'mmdet')),
        (
            'from mmengine.registry import MODELS; MODELS.get("mmdyn.ResNet")',
            ('mmpretrain.models', 'mmseg.models', 'mmdet.models'),
        ),
    ],
)
def test_imports_are_light(code, absent):
    code += f'; import sys; found = {set(absent)} & set(sys.modules)'
    code += '; assert not found, found'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_public_names():
    from mmdyn import apis

    assert set(mmdyn.__all__) == PUBLIC == {*apis.__all__, '__version__'}
    assert all(getattr(mmdyn, name) is getattr(apis, name) for name in apis.__all__)
    with pytest.raises(AttributeError, match="'mmdyn' has no attribute 'nothing'"):
        mmdyn.nothing  # noqa: B018
