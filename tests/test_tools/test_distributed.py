"""Two processes on a machine without an accelerator."""

import json
import socket
import subprocess
import sys

import pytest
import torch
from test_tools.conftest import CONFIG, ENVIRONMENT, ROOT, run_tool, small

pytestmark = pytest.mark.skipif(
    torch.cuda.is_available(), reason='two processes would need two GPUs'
)


def run_distributed(script, *arguments):
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    settings = dict(PYTHON=sys.executable, PORT=str(port), OMP_NUM_THREADS='1')
    done = subprocess.run(
        ['bash', str(ROOT / 'tools' / script), *map(str, arguments)],
        cwd=ROOT,
        env={**ENVIRONMENT, **settings},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_two_processes_train_and_report_what_one_does(digits, tmp_path):
    options = small(digits)
    run_distributed('dist_train.sh', CONFIG, 2, '--work-dir', tmp_path, *options)
    checkpoint = tmp_path / 'epoch_1.pth'
    reports = []
    for number in (1, 2):
        folder = tmp_path / str(number)
        if number == 1:
            run_tool('tools/test.py', CONFIG, checkpoint, '--work-dir', folder, *options)
        else:
            done = run_distributed(
                'dist_test.sh', CONFIG, checkpoint, 2, '--work-dir', folder, *options
            )
            assert done.stdout.count('│ exit=1') == 1  # printed by one process
        reports.append(json.loads((folder / 'operating_points.json').read_text()))
    for alone, together in zip(*(report['points'] for report in reports)):
        assert together['name'] == alone['name']
        assert together['metrics'] == pytest.approx(alone['metrics'])
        assert together['macs_per_image'] == pytest.approx(alone['macs_per_image'])


def test_usage_is_shown():
    for script in ('dist_train.sh', 'dist_test.sh', 'slurm_train.sh', 'slurm_test.sh'):
        done = subprocess.run(
            ['bash', str(ROOT / 'tools' / script)], capture_output=True, text=True
        )
        assert done.returncode == 2 and done.stderr.startswith('usage: ')
