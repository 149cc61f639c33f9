"""Two processes on a machine without an accelerator."""

import json
import socket
import subprocess
import sys

import pytest
import torch
from helpers.rooms import needs
from helpers.tools import ENVIRONMENT, ROOT, TOY_CONFIG, run_tool, small

pytestmark = pytest.mark.skipif(
    torch.cuda.is_available(), reason='two processes would need two GPUs'
)


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return str(probe.getsockname()[1])


def run_distributed(script, *arguments):
    settings = dict(PYTHON=sys.executable, PORT=free_port(), OMP_NUM_THREADS='1')
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
    run_distributed('dist_train.sh', TOY_CONFIG, 2, '--work-dir', tmp_path, *options)
    checkpoint = tmp_path / 'epoch_1.pth'
    reports = []
    for number in (1, 2):
        folder = tmp_path / str(number)
        if number == 1:
            run_tool(
                'tools/test.py', TOY_CONFIG, checkpoint, '--work-dir', folder, *options
            )
        else:
            done = run_distributed(
                'dist_test.sh', TOY_CONFIG, checkpoint, 2, '--work-dir', folder, *options
            )
            assert done.stdout.count('│ pool=4') == 1  # printed by one process
        reports.append(json.loads((folder / 'operating_points.json').read_text()))
    for alone, together in zip(*(report['points'] for report in reports)):
        assert together['name'] == alone['name']
        assert together['metrics'] == pytest.approx(alone['metrics'])
        assert together['macs_per_image'] == pytest.approx(alone['macs_per_image'])


TURNS = """
_base_ = '{root}/configs/jei/resnet20_jei_15e_digits.py'
load_from = None
model = dict(
    backbone=dict(depth=8),
    exits=[dict(type='mmdyn.LinearExit', stage=block) for block in (1, 2)],
)
custom_hooks = [
    dict(
        type='mmdyn.JEIScheduleHook',
        cost_weight=0.1,
        warmup_epochs=1,
        bi_switch=2,
        balance_gates=True,
    )
]
train_cfg = dict(max_epochs=3, val_interval=9)
optim_wrapper = dict(optimizer=dict(_delete_=True, type='SGD', lr=0.1))
data_root = '{digits}'
train_dataloader = dict(
    batch_size={batch_size},
    dataset=dict(data_root=data_root, indices=96, pipeline={{{{_base_.test_pipeline}}}}),
)
val_dataloader = dict(dataset=dict(data_root=data_root, indices=range(100, 160)))
randomness = dict(seed=0)
find_unused_parameters = True
"""


@needs('JEIScheduleHook')
def test_exits_and_gates_learn_in_two_processes_what_they_learn_in_one(digits, tmp_path):
    weights = []
    for number in (1, 2):
        config = tmp_path / f'{number}.py'
        text = TURNS.format(root=ROOT, digits=digits, batch_size=16 // number)
        config.write_text(text)
        folder = tmp_path / str(number)
        if number == 1:
            run_tool('tools/train.py', config, '--work-dir', folder)
        else:
            run_distributed('dist_train.sh', config, 2, '--work-dir', folder)
        checkpoint = torch.load(folder / 'epoch_3.pth', weights_only=False)
        weights.append(checkpoint['state_dict'])
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-3, atol=1e-4)
    assert weights[0]['policy.class_weights'].std() > 0  # there was something to balance


JOB = """
import atexit
from pathlib import Path

def print_threads():
    names = [file.read_text().strip() for file in Path('/proc/self/task').glob('*/comm')]
    print('threads', names.count('pt_gloo_runloop'))

atexit.register(print_threads)  # handlers run in reverse: after those of the runner

from mmengine.config import Config
from mmdyn.engine.runner import build_runner

model = dict(type='mmdyn.ResNet', depth=8)
build_runner(Config(dict(model=model, work_dir='.', launcher='pytorch')))
print_threads()
"""


def test_no_thread_of_gloo_outlives_a_job(tmp_path):
    """Those that do can abort the process at the end of a successful training."""
    job = dict(RANK='0', LOCAL_RANK='0', WORLD_SIZE='1', MASTER_ADDR='127.0.0.1')
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', JOB],
        cwd=tmp_path,
        env={**ENVIRONMENT, **job, 'MASTER_PORT': free_port()},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    during, after = [line for line in done.stdout.splitlines() if 'threads' in line]
    assert during != after == 'threads 0'


def test_usage_is_shown():
    for script in ('dist_train.sh', 'dist_test.sh', 'slurm_train.sh', 'slurm_test.sh'):
        done = subprocess.run(
            ['bash', str(ROOT / 'tools' / script)], capture_output=True, text=True
        )
        assert done.returncode == 2 and done.stderr.startswith('usage: ')
