"""What the configs of configs/mod say beside their metafile; the figures of the paper."""

import ast
import re

import pytest
from helpers.configs import (
    CONFIGS,
    build,
    docstring,
    in_units,
    load,
    macs,
    names,
    paper,
    table_rows,
)

NAMES = names('mod')
PAPER = {f'mod/{name}': row for name, row in paper('mod')['configs'].items()}
# 16,254,169 parameters are 16.25 M; the paper prints 16.26.
PAPERS_OWN_SLIP = {'mod/resnet50_mod_200e_cifar100': '16.25'}
# Of these the supplement prints no accuracy.
SMALL = 'mod/resnet34-16_mod-c8_12e_cifar10-folder'
OTHERS = {
    'mod/mobilenet-v2_mod_100e_in1k',
    'mod/mobilenet-v2_mod-large_100e_in1k',
    SMALL,
}
UNITS = dict(G=1e9, M=1e6)


def test_the_family_is_complete():
    assert sorted([*PAPER, *OTHERS]) == NAMES


@pytest.mark.parametrize('name', NAMES)
def test_docstrings_have_the_figures_of_the_paper_and_models_come_near(name):
    params = f'{sum(p.numel() for p in build(name).parameters()) / 1e6:.2f}'
    row, text = PAPER.get(name, {}), docstring(name)
    if 'top1' in row:
        assert f'top-1 {row["top1"]} %' in text
    if 'params' in row:
        assert params == PAPERS_OWN_SLIP.get(name, row['params'])
    if 'macs' in row:
        assert ' '.join(re.search(r'([\d.]+) ([GM])MACs', text).groups()) == row['macs']
    for number, unit in re.findall(r'([\d.]+) ([GM])MACs', text):
        assert macs(name) / UNITS[unit] == pytest.approx(float(number), rel=0.015)
    for number in re.findall(r'([\d.]+) M\s+parameters', text):
        assert number == row.get('params', params)


@pytest.mark.parametrize('name', NAMES)
def test_ablations_change_what_their_names_say_alone(name):
    divisor = re.search(r'-c(\d+)', name)
    fusion = 'last' if '-lk' in name else 'original' if '-op' in name else None
    expected = dict(divisor=int(divisor[1])) if divisor else {}
    if fusion:
        expected['fusion'] = fusion
    cfg = load(name).model.backbone
    assert {k: cfg[k] for k in ('divisor', 'fusion') if k in cfg} == expected
    if expected and name not in OTHERS:
        tree = ast.parse((CONFIGS / f'{name}.py').read_text()).body
        settings = {node.targets[0].id: ast.unparse(node.value) for node in tree[1:]}
        assert list(settings) == ['_base_', 'model']
        assert eval(settings['model']) == dict(backbone=expected)


def test_epochs_of_the_folder_are_not_chosen():
    cfg = load(SMALL)
    assert cfg.default_hooks.checkpoint.get('save_best') is None


def check_row(name, cells):
    """Cells of a table: parameters in millions, MACs, and MACs of the paper if given."""
    params, ours, *theirs = cells
    assert params == f'{sum(p.numel() for p in build(name).parameters()) / 1e6:.2f}'
    assert ours == in_units(macs(name), ours)
    assert not theirs or theirs == [PAPER.get(name, {}).get('macs', '–')]


def top1(name):
    return PAPER[name]['top1'].split()[0] if name in PAPER else '–'


def test_tables_of_the_readme():
    checked = set()
    for first, *cells in table_rows('configs/mod/README.md'):
        if found := re.match(r'`([\w-]+)\.py`(, `…100.py`)?$', first):
            name = f'mod/{found[1]}'
            printed = [name, f'{name}0'] if found[2] else [name]
            assert cells[0] == ', '.join(map(top1, printed))
            check_row(name, cells[1:])
        elif found := re.match(r'\d+', first):
            c = '' if found[0] == '64' else f'-c{found[0]}'
            printed = [f'mod/resnet50_mod{c}{op}_100e_in1k' for op in ('', '-op')]
            assert cells == list(map(top1, printed))
        else:
            continue
        checked.update(printed)
    last = [f'mod/resnet{depth}_mod-lk_100e_in1k' for depth in (50, 75, 86)]
    text = (CONFIGS / 'mod' / 'README.md').read_text()
    assert f'last channels: {", ".join(map(top1, last))}' in text
    assert {*checked, *last} == set(PAPER) | (OTHERS - {SMALL})


def test_table_of_the_page():
    checked = 0
    for first, *cells in table_rows('docs/mod.md'):
        if found := re.match(r'(ResNet\d+|VGG\d+|MobileNetV2)(-BN)?-MoD(-L)?(.*)', first):
            network, bn, large, cifar = found.groups()
            network = network.lower().replace('netv2', 'net-v2') + ('bn' if bn else '')
            schedule = '200e_cifar10' if cifar else '100e_in1k'
            check_row(f'mod/{network}_mod{"-large" if large else ""}_{schedule}', cells)
            checked += 1
    assert checked == 16
