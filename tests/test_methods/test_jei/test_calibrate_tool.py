"""The commands of configs/jei/README.md: train twice, calibrate, test."""

import json

import numpy as np
import pytest
from helpers.tools import ROOT, run_tool

CONFIG = """
_base_ = '{base}'
model = dict(
    backbone=dict(depth=8),
    exits=[dict(type='mmdyn.LinearExit', stage=block) for block in (1, 2)],
)
load_from = {load_from!r}
custom_hooks = [
    dict(type='mmdyn.JEIScheduleHook', cost_weight=1.0, warmup_epochs=1, bi_switch=2)
]
train_cfg = dict(max_epochs=3, val_interval=3)
train_dataloader = dict(dataset=dict(data_root={digits!r}, indices=160))
val_dataloader = dict(dataset=dict(data_root={digits!r}, indices=range(160, 260)))
test_dataloader = dict(dataset=dict(data_root={digits!r}, indices=60))
"""


def write_config(path, digits, load_from=None):
    base = ROOT / 'configs' / 'jei' / 'resnet20_jei_15e_digits.py'
    path.write_text(
        CONFIG.format(base=base, load_from=str(load_from), digits=str(digits))
    )
    return path


@pytest.fixture(scope='module')
def trained(digits, tmp_path_factory):
    """A config and the checkpoint of a small JEI-DNN."""
    folder = tmp_path_factory.mktemp('jei')
    options = {
        'train_dataloader.dataset.data_root': digits,
        'train_dataloader.dataset.indices': 160,
        'val_dataloader.dataset.data_root': digits,
        'val_dataloader.dataset.indices': 40,
        'model.backbone.depth': 8,
        'train_cfg.max_epochs': 3,
        'train_cfg.val_interval': 3,
        'param_scheduler.total_steps': 15,
    }
    run_tool(
        'tools/train.py',
        'configs/jei/resnet20_15e_digits.py',
        '--work-dir',
        folder / 'start',
        '--cfg-options',
        *(f'{key}={value}' for key, value in options.items()),
    )
    config = write_config(folder / 'jei.py', digits, folder / 'start' / 'epoch_3.pth')
    run_tool('tools/train.py', config, '--work-dir', folder / 'jei')
    return config, folder / 'jei' / 'epoch_3.pth'


def columns(work_dir):
    points = json.loads((work_dir / 'operating_points.json').read_text())['points']
    return {point['name']: point['metrics'] for point in points}


def test_calibrate_and_report(trained, tmp_path):
    config, checkpoint = trained
    before = tmp_path / 'before'
    run_tool('tools/test.py', config, checkpoint, '--work-dir', before)
    names = ['exit=1', 'exit=2', 'exit=3', 'gates', 'early', 'late']
    raw = columns(before)
    assert list(raw) == names
    assert set(raw['gates']) == {'accuracy/top1', 'uncertainty/ece_uncalibrated'}

    done = run_tool(
        'tools/analysis_tools/calibrate.py',
        config,
        checkpoint,
        *('--alpha', 0.2, '--draw', 'gates', '--work-dir', tmp_path),
    )
    assert 'validation images leave' in done.stdout  # some exits have too few
    assert (tmp_path / 'reliability.png').stat().st_size > 10_000
    file = checkpoint.with_suffix('.calibration.json')
    assert str(file) in done.stdout
    found = json.loads(file.read_text())['calibration']
    assert (found['alpha'], found['method']) == (0.2, 'gated')
    assert list(found['thresholds']) == names
    assert [len(values) for values in found['temperatures'].values()] == [
        1,
        1,
        1,
        3,
        3,
        3,
    ]
    # A temperature is that of an exit, whichever the point.
    of_exits = [found['temperatures'][f'exit={i}'][0] for i in (1, 2, 3)]
    np.testing.assert_allclose(found['temperatures']['gates'], of_exits, rtol=1e-4)

    after = tmp_path / 'after'
    run_tool('tools/test.py', config, checkpoint, '--work-dir', after)
    metrics = columns(after)
    for name in names:
        assert metrics[name]['accuracy/top1'] == raw[name]['accuracy/top1']
        assert 0 <= metrics[name]['uncertainty/ece'] <= 100
        assert 0 < metrics[name]['uncertainty/set_size'] <= 10
        # 80 % with 100 images to choose by and 60 to test on: 4 σ are 26 %.
        assert metrics[name]['uncertainty/coverage'] > 54

    # The same name with other settings is another point.
    changed = ['--cfg-options', 'model.policy.thresholds.gates=0.1']
    done = run_tool(
        'tools/test.py', config, checkpoint, '--work-dir', after, *changed, check=False
    )
    assert "'gates' has been calibrated with the settings" in done.stderr
    file.unlink()


def test_a_classifier_without_exits(digits, tmp_path):
    """Any mmpretrain classifier can be calibrated, at its one operating point."""
    options = {
        'train_dataloader.dataset.data_root': digits,
        'train_dataloader.dataset.indices': 64,
        'val_dataloader.dataset.data_root': digits,
        'val_dataloader.dataset.indices': 40,
        'test_dataloader.dataset.data_root': digits,
        'test_dataloader.dataset.indices': 40,
        'model.backbone.depth': 8,
        'train_cfg.max_epochs': 1,
        'param_scheduler.total_steps': 2,
    }
    config = tmp_path / 'static.py'
    base = ROOT / 'configs' / 'jei' / 'resnet20_15e_digits.py'
    config.write_text(
        f"_base_ = '{base}'\n"
        f"test_evaluator = dict(_delete_=True, type='mmdyn.UncertaintyReport')\n"
    )
    arguments = ['--work-dir', tmp_path, '--cfg-options']
    arguments += [f'{key}={value}' for key, value in options.items()]
    run_tool('tools/train.py', config, *arguments)
    checkpoint = tmp_path / 'epoch_1.pth'
    run_tool('tools/analysis_tools/calibrate.py', config, checkpoint, *arguments)
    run_tool('tools/test.py', config, checkpoint, *arguments)
    found = columns(tmp_path)
    assert list(found) == ['dense']
    assert {f'uncertainty/{name}' for name in ('ece', 'coverage', 'set_size')} == set(
        found['dense']
    )


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--alpha', '1'], '--alpha must lie in (0, 1), got 1.0'),
        (
            ['--draw', 'exit=9'],
            "unknown operating points ['exit=9']; valid ones: ['exit=1'",
        ),
        (['--method', 'all'], "invalid choice: 'all'"),
        (
            ['--cfg-options', 'val_dataloader.dataset.indices=[]'],
            'val_dataloader.dataset is empty',
        ),
    ],
)
def test_refusals(trained, arguments, message):
    done = run_tool(
        'tools/analysis_tools/calibrate.py', *trained, *arguments, check=False
    )
    assert done.returncode and message in done.stderr
