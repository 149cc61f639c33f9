"""A mixture of networks through the command line: train, search points, test."""

import csv
import json
import runpy

import pytest
import torch
from helpers.rooms import needs
from helpers.tools import ROOT, run_tool, small
from mmengine.config import Config
from PIL import Image

from mmdyn import count_macs, load_operating_points, operating_points
from mmdyn.engine.build import build_model
from mmdyn.operating_point import at_operating_point

pytestmark = needs('MultiExitClassifier')

CONFIG = 'configs/cnmm/cnmm-small_5e_digits.py'
FRONTIER = 'tools/analysis_tools/cnmm_frontier.py'


def options(digits):
    others = ('model.backbone.depth', 'param_scheduler')
    return [o for o in small(digits, 2, 320) if not o.startswith(others)]


@pytest.fixture(scope='module')
def searched(digits, tmp_path_factory):
    """Work directory of a short training, its checkpoint, and what the search printed."""
    folder = tmp_path_factory.mktemp('cnmm')
    run_tool('tools/train.py', CONFIG, '--work-dir', folder, *options(digits))
    checkpoint = folder / 'epoch_2.pth'
    arguments = ('--work-dir', folder, '--num-points', 5, *options(digits))
    done = run_tool(FRONTIER, CONFIG, checkpoint, *arguments)
    return folder, checkpoint, done.stdout


def rows_of(folder):
    with (folder / 'cnmm_frontier.csv').open() as file:
        return list(csv.DictReader(file))


def test_every_exit_is_searched_with_both_rankings(searched):
    folder, _, printed = searched
    rows = rows_of(folder)
    names = [row['point'] for row in rows]
    assert len(set(names)) == len(names)
    assert {'exit=1', 'exit=2'} < set(names)
    for exit in ('1', '2'):
        for ranking in ('usage', 'mixing_weight'):
            macs = [
                float(row['macs_per_image'])
                for row in rows
                if row['exit'] == exit and row['ranking'] in ('', ranking)
            ]
            assert len(macs) > 2
            assert macs == sorted(macs, reverse=True)
    for line in ('functions by usage', 'functions by mixing_weight', 'early exits alone'):
        assert line in printed
    with Image.open(folder / 'cnmm_frontier.png') as picture:
        assert len(picture.convert('L').getcolors()) > 10


def test_saved_points_are_on_the_envelope(searched):
    folder, checkpoint, _ = searched
    saved = json.loads(checkpoint.with_suffix('.points.json').read_text())
    assert saved['metric'] == 'accuracy/top1'
    rows = {row['point']: row for row in rows_of(folder)}
    chosen = [rows[point['name']] for point in saved['points']]
    assert 1 <= len(chosen) <= 5
    for row in chosen:
        cost, score = float(row['macs_per_image']), float(row['accuracy/top1'])
        assert all(
            float(r['accuracy/top1']) < score
            for r in rows.values()
            if float(r['macs_per_image']) < cost
        )


def test_the_test_tool_offers_them(searched, digits, tmp_path):
    folder, checkpoint, _ = searched
    arguments = ('--work-dir', tmp_path, *options(digits))
    run_tool('tools/test.py', CONFIG, checkpoint, *arguments)
    report = json.loads((tmp_path / 'operating_points.json').read_text())
    saved = json.loads(checkpoint.with_suffix('.points.json').read_text())['points']
    tested = {point['name']: point for point in report['points']}
    found = [p['name'] for p in saved if p['name'] not in ('exit=1', 'exit=2')]
    assert list(tested) == ['exit=1', 'exit=2', *found]
    rows = {row['point']: row for row in rows_of(folder)}
    for name, point in tested.items():
        assert point['macs_per_image'] == float(rows[name]['macs_per_image'])

    model = build_model(Config.fromfile(ROOT / CONFIG))
    model.load_state_dict(
        torch.load(checkpoint, map_location='cpu', weights_only=False)['state_dict']
    )
    assert load_operating_points(model, checkpoint) == len(saved)
    for point in operating_points(model):
        with at_operating_point(model, point):
            assert count_macs(model, (1, 32, 32)) == tested[point.name]['macs_per_image']


def test_a_model_without_exits(digits, tmp_path):
    config = tmp_path / 'config.py'
    config.write_text(
        f'_base_ = {str(ROOT / CONFIG)!r}\n'
        "model = dict(_delete_=True, type='ImageClassifier', backbone=dict("
        "type='mmdyn.CNMM', scales=(0, 0, 1, 1), channels=(4, 8), in_channels=1), "
        "neck=dict(type='GlobalAveragePooling'), head=dict(type='LinearClsHead', "
        'num_classes=10, in_channels=8))\n'
    )
    arguments = ('--work-dir', tmp_path, *options(digits))
    run_tool('tools/train.py', config, *arguments)
    checkpoint = tmp_path / 'epoch_2.pth'
    run_tool(FRONTIER, config, checkpoint, *arguments)
    names = [row['point'] for row in rows_of(tmp_path)]
    assert names[:3] == ['dense', 'keep=5', 'keep=4']
    run_tool('tools/test.py', config, checkpoint, *arguments)
    report = json.loads((tmp_path / 'operating_points.json').read_text())
    assert report['dense_point'] == 'dense'


def test_a_number_of_points_under_its_old_name():
    parse_args = runpy.run_path(str(ROOT / FRONTIER))['parse_args']
    with pytest.warns(FutureWarning, match='--points 8 is now --num-points 8'):
        args = parse_args(['CONFIG', 'CHECKPOINT', '--points', '8'])
    assert args.num_points == 8


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--levels', '0'], '--levels must be 1 or more, got 0'),
        (['--num-points', '1'], '--num-points must be 2 or more, got 1'),
        (['--points', '1'], '--num-points must be 2 or more, got 1'),
        (['--points', 'exit=1'], "takes a number of points, got 'exit=1'"),
        (['--metric', 'mIoU'], "unknown metric 'mIoU'; measured: ['accuracy/top1']"),
    ],
)
def test_refusals(searched, digits, tmp_path, arguments, message):
    _, checkpoint, _ = searched
    arguments = (*arguments, '--work-dir', tmp_path, *options(digits))
    done = run_tool(FRONTIER, CONFIG, checkpoint, *arguments, check=False)
    assert done.returncode != 0
    assert message in done.stderr


def test_another_backbone_is_refused(trained, digits, tmp_path):
    config = 'configs/multi_exit/resnet20_multi-exit_15e_digits.py'
    checkpoint = trained / 'epoch_1.pth'
    arguments = ('--work-dir', tmp_path, *small(digits))
    done = run_tool(FRONTIER, config, checkpoint, *arguments, check=False)
    assert done.returncode != 0
    assert 'the model needs an mmdyn.CNMM, got a MultiExitClassifier' in done.stderr
