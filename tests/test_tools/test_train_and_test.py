"""Whole runs through tools/train.py and tools/test.py."""

import json
import pickle
import signal
import subprocess

import pytest
import torch
from helpers.tools import ENVIRONMENT, ROOT, TOY_CONFIG, command, run_tool, small


def losses(work_dir):
    """Losses of every logged training iteration, by iteration, over all runs."""
    found = {}
    for path in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in path.read_text().splitlines():
            record = json.loads(line)
            if 'loss' in record:
                keys = ('loss', 'lr')
                found[record['step']] = [record[key] for key in keys]
    return found


def test_resumed_training_repeats_the_uninterrupted_one(digits, tmp_path):
    options = small(digits, epochs=3, images=160)
    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    run_tool('tools/train.py', TOY_CONFIG, '--work-dir', whole, *options)

    process = subprocess.Popen(
        command('tools/train.py', TOY_CONFIG, '--work-dir', parts, *options),
        cwd=ROOT,
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
        # Background jobs of a shell ignore Ctrl-C and hand that down.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    shown = []
    for line in process.stderr:  # logs; stdout is for results
        shown.append(line)
        if 'Epoch(train) [2][ 2/10]' in line:
            process.send_signal(signal.SIGINT)
            break
    message = ''.join(shown) + process.stderr.read()
    assert process.wait() == 130
    assert f'the last checkpoint is {parts}/epoch_1.pth' in message
    assert 'Traceback' not in message
    assert not (parts / 'epoch_2.pth').exists()

    run_tool('tools/train.py', TOY_CONFIG, '--work-dir', parts, '--resume', *options)
    expected, got = losses(whole), losses(parts)
    assert sorted(expected) == list(range(1, 31)) == sorted(got)
    for step in expected:
        assert got[step] == pytest.approx(expected[step], rel=1e-5), step
    states = [torch.load(d / 'epoch_3.pth', weights_only=False) for d in (whole, parts)]
    for key, value in states[0]['state_dict'].items():
        torch.testing.assert_close(states[1]['state_dict'][key], value)


def test_validation_at_every_point_is_logged(trained_toy):
    records = [
        json.loads(line)
        for path in trained_toy.glob('*/vis_data/scalars.json')
        for line in path.read_text().splitlines()
    ]
    val = next(record for record in records if 'accuracy/top1' in record)
    assert val['dense/accuracy/top1'] == val['accuracy/top1']
    assert val['pool=4/macs_per_image'] < val['pool=2/macs_per_image']


def test_all_points_are_reported(trained_toy, digits, tmp_path):
    checkpoint = trained_toy / 'epoch_1.pth'
    done = run_tool(
        'tools/test.py', TOY_CONFIG, checkpoint, '--work-dir', tmp_path, *small(digits)
    )
    report = json.loads((tmp_path / 'operating_points.json').read_text())
    names = [point['name'] for point in report['points']]
    assert names == ['pool=4', 'pool=2', 'dense']
    assert report['config'].endswith(TOY_CONFIG) and report['checkpoint'] == str(
        checkpoint
    )
    assert 'mmengine - INFO' not in done.stdout
    for name in names:
        assert any(line.startswith(f'│ {name}') for line in done.stdout.splitlines())
    for suffix in ('csv', 'png'):
        assert (tmp_path / f'operating_points.{suffix}').stat().st_size > 100


def test_one_point_and_its_predictions(trained_toy, digits, tmp_path):
    out = tmp_path / 'predictions.pkl'
    arguments = [
        TOY_CONFIG,
        trained_toy / 'epoch_1.pth',
        '--work-dir',
        tmp_path,
        '--out',
        out,
    ]
    run_tool('tools/test.py', *arguments, '--points', 'pool=2', *small(digits))
    predictions = pickle.loads(out.read_bytes())
    assert len(predictions) == 40
    report = json.loads((tmp_path / 'operating_points.json').read_text())
    assert [point['name'] for point in report['points']] == ['pool=2']
    right = [p['pred_label'].item() == p['gt_label'].item() for p in predictions]
    top1 = report['points'][0]['metrics']['accuracy/top1']
    assert top1 == pytest.approx(100 * sum(right) / 40, abs=1e-3)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--points', 'pool=9'], "['pool=9']; valid ones: ['pool=4', 'pool=2', 'dense']"),
        (['--out', 'all.pkl'], 'choose it with --points'),
        (['--out-item', 'pred'], '--out-item needs --out FILE'),
        (
            ['--out', 'x.txt', '--out-item', 'metrics'],
            "--out needs a suffix among ['json",
        ),
    ],
)
def test_refused_arguments(trained_toy, digits, tmp_path, arguments, message):
    done = run_tool(
        'tools/test.py',
        TOY_CONFIG,
        trained_toy / 'epoch_1.pth',
        '--work-dir',
        tmp_path,
        *arguments,
        *small(digits),
        check=False,
    )
    assert done.returncode != 0 and message in done.stderr
    assert not (tmp_path / 'operating_points.json').exists()


def test_checkpoint_that_does_not_fit(trained_toy, digits, tmp_path):
    state = torch.load(trained_toy / 'epoch_1.pth', weights_only=False)
    del state['state_dict']['head.fc.weight']
    torch.save(state, tmp_path / 'lacking.pth')
    done = run_tool(
        'tools/test.py',
        TOY_CONFIG,
        tmp_path / 'lacking.pth',
        '--work-dir',
        tmp_path,
        *small(digits),
        check=False,
    )
    assert done.returncode != 0
    assert 'does not fit the model: it lacks 1 keys, head.fc.weight' in done.stderr


def test_empty_training_set(digits, tmp_path):
    for digit in range(10):
        (tmp_path / 'train' / str(digit)).mkdir(parents=True)
    options = [*small(digits), f'train_dataloader.dataset.data_root={tmp_path}']
    done = run_tool(
        'tools/train.py', TOY_CONFIG, '--work-dir', tmp_path, *options, check=False
    )
    assert done.returncode != 0
    assert (
        f"Found 0 files in subfolders of: {{'img_path': '{tmp_path}/train'}}"
        in done.stderr
    )
