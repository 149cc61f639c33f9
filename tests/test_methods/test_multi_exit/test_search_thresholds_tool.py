"""Thresholds through the command line: search, save, report, test."""

import json
import pickle
import shutil

import pytest
from helpers.rooms import needs
from helpers.tools import CONFIG, run_tool, small

SEARCH = 'tools/analysis_tools/search_thresholds.py'


@pytest.fixture(scope='module')
def checkpoint(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp('thresholds')
    return shutil.copy(trained / 'epoch_1.pth', folder / 'multi_exit.pth')


def search(checkpoint, digits, *budgets, options=(), check=True):
    folder = checkpoint.parent
    wanted = ('--work-dir', folder, *budgets)
    return run_tool(
        SEARCH, CONFIG, checkpoint, *wanted, *small(digits), *options, check=check
    )


def cells(printed, point):
    """The numbers of a row of the table."""
    (line,) = [line for line in printed.splitlines() if f' {point} ' in line]
    return [cell.strip() for cell in line.strip('│ ').split('│')][1:]


def macs_of_exits(checkpoint, digits):
    points = ('--points', 'exit=1', 'exit=3')
    run_tool(
        'tools/test.py',
        CONFIG,
        checkpoint,
        '--work-dir',
        checkpoint.parent / 'exits',
        *points,
        *small(digits),
    )
    report = json.loads(
        (checkpoint.parent / 'exits' / 'operating_points.json').read_text()
    )
    return [point['macs_per_image'] for point in report['points']]


def test_search_saves_points_that_the_test_runs(checkpoint, digits):
    first, last = macs_of_exits(checkpoint, digits)
    budget = (first + last) / 2
    budgets = ('--max-macs', f'{budget:.0f}', '--min-accuracy', 1)
    done = search(checkpoint, digits, *budgets)
    name = f'max-macs={round(budget) / 1e6:g}M'

    # What the search expects keeps the budget; all leave at exit 1 for 1 % accuracy.
    _, _, expected_macs, accuracy, macs, cost = cells(done.stdout, name)
    assert float(expected_macs) <= budget / 1e6
    assert float(cost) == pytest.approx(float(macs) * 1e6 / last, abs=1e-3)
    saved = json.loads(checkpoint.with_suffix('.points.json').read_text())
    assert [p['name'] for p in saved['points']] == [name, 'min-accuracy=1']
    assert all(len(p['settings']['thresholds']) == 2 for p in saved['points'])

    folder = checkpoint.parent / 'tested'
    arguments = ('--work-dir', folder, '--points', name, 'exit=3')
    # The images that the report was on: every other one, from the second on.
    halves = f'test_dataloader.dataset.indices={list(range(1, 40, 2))}'.replace(' ', '')
    run_tool('tools/test.py', CONFIG, checkpoint, *arguments, *small(digits), halves)
    report = json.loads((folder / 'operating_points.json').read_text())
    tested = report['points'][0]
    assert f'{tested["metrics"]["accuracy/top1"]:.2f}' == accuracy
    assert f'{tested["macs_per_image"] / 1e6:.2f}' == macs


def test_images_are_searched_or_reported_on(checkpoint, digits):
    # 30 of the 40 test images are validation data: 15 are searched on, 25 reported on.
    overlap = 'val_dataloader.dataset.indices=30'
    done = search(checkpoint, digits, '--min-accuracy', 1, options=[overlap])
    assert '30 images are validation data and test data' in done.stderr
    _, accuracy, _, tested, *_ = cells(done.stdout, 'min-accuracy=1')
    assert (float(accuracy) * 0.15) % 1 == pytest.approx(0, abs=0.01)
    assert (float(tested) * 0.25) % 1 == pytest.approx(0, abs=0.01)

    apart = 'val_dataloader.dataset.data_prefix=train'
    done = search(checkpoint, digits, '--min-accuracy', 1, options=[apart])
    assert 'validation data and test data' not in done.stderr
    _, accuracy, _, tested, *_ = cells(done.stdout, 'min-accuracy=1')
    assert (float(accuracy) * 0.4) % 1 == pytest.approx(0, abs=0.01)
    assert (float(tested) * 0.4) % 1 == pytest.approx(0, abs=0.01)


@needs('SpatialResNet')
def test_backbone_with_points_of_its_own(digits, tmp_path):
    options = [
        'model.backbone.type=mmdyn.SpatialResNet',
        'model.backbone.budgets=[0.3,0.5,0.7]',
        'train_cfg.max_epochs=1',
        'val_cfg.points=[exit=3+dense]',
    ]
    arguments = ('--work-dir', tmp_path, *small(digits), *options)
    run_tool('tools/train.py', CONFIG, *arguments)
    checkpoint = tmp_path / 'epoch_1.pth'
    done = run_tool(SEARCH, CONFIG, checkpoint, '--min-accuracy', 1, *arguments)
    macs = float(cells(done.stdout, 'min-accuracy=1')[4])
    dense = float(cells(done.stdout, 'exit=3+dense')[4])
    assert macs < 0.8 * dense
    done = run_tool(
        'tools/analysis_tools/exit_statistics.py', CONFIG, checkpoint, *arguments
    )
    for budget in ('0.3', '0.5', '0.7'):
        assert f'min-accuracy=1+budget={budget}' in done.stdout
    assert 'exit=1' not in done.stdout


def test_budgets_that_cannot_be_had(checkpoint, digits):
    before = checkpoint.with_suffix('.points.json')
    before.unlink(missing_ok=True)
    done = search(checkpoint, digits, '--max-macs', 1000, check=False)
    assert done.returncode
    assert 'at most 1,000 MACs per image cannot be had: the cheapest' in done.stderr
    assert not before.exists()
    done = run_tool(SEARCH, CONFIG, checkpoint, check=False)
    assert done.returncode and 'at least one --max-macs or --min-accuracy' in done.stderr


@needs('SpatialResNet')
def test_models_without_exits(checkpoint, digits, tmp_path):
    config = 'configs/spatial/resnet20_spatial_15e_digits.py'
    options = [o for o in small(digits) if not o.startswith('param_scheduler')]
    arguments = ('--work-dir', tmp_path, *options)
    run_tool('tools/train.py', config, *arguments, 'train_cfg.max_epochs=1')
    done = run_tool(
        SEARCH,
        config,
        tmp_path / 'epoch_1.pth',
        '--max-macs',
        1e6,
        *arguments,
        check=False,
    )
    assert done.returncode
    assert 'an mmdyn.MultiExitClassifier, got a ImageClassifier' in done.stderr


def test_predictions_have_the_exit(trained, digits, tmp_path):
    out = tmp_path / 'predictions.pkl'
    arguments = (CONFIG, trained / 'epoch_1.pth', '--work-dir', tmp_path, '--out', out)
    run_tool('tools/test.py', *arguments, '--points', 'exit=2', *small(digits))
    assert [p['exit_index'] for p in pickle.loads(out.read_bytes())] == [2] * 40
