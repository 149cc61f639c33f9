"""The check for machines with a GPU, run dry on a CPU."""

import json
import os
import subprocess
import sys
import time
from functools import partial

import pytest
import torch
from gpu_check import __main__ as main
from gpu_check import kernel, speed
from gpu_check.record import Record
from helpers.paths import ROOT
from mmengine.config import Config

from mmdyn import operating_points
from mmdyn.methods.spatial.ops.triton_op import HAS_TRITON

STAGES = ['ceilings', 'kernel', 'tests', 'blocks', 'speed', 'trainings', 'summary']


_LISTS = json.loads((ROOT / 'scripts' / 'gpu_check' / 'trainings.json').read_text())
DRY_TRAININGS = _LISTS['dry']['trainings']


def gpu_check(*arguments, **variables):
    environment = {**os.environ, 'PYTHON': sys.executable, **variables}
    return subprocess.run(
        [ROOT / 'scripts' / 'gpu_check.sh', *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def rows_in(folder):
    lines = (folder / 'rows.jsonl').read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope='module')
def dry(tmp_path_factory):
    folder = tmp_path_factory.mktemp('gpu_check')
    done = gpu_check('--out', folder, '--dry', COMMIT='abc123')
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, rows_in(folder)


def test_every_stage_has_rows(dry):
    folder, rows = dry
    stages = [stage for stage in STAGES if stage != 'trainings' or DRY_TRAININGS]
    assert list(dict.fromkeys(row['stage'] for row in rows)) == stages
    assert (rows[-1]['failed'], rows[-1]['not_reached']) == ([], [])
    table = (folder / 'table.txt').read_text().splitlines()
    assert [line.split()[0] for line in table[1:]] == [row['stage'] for row in rows]


def test_rows_say_where_and_what_was_measured(dry):
    _, rows = dry
    for row in rows:
        assert (row['card'], row['torch']) == ('CPU', torch.__version__)
        assert row['date'].startswith('20')
        assert row['commit'] == 'abc123' or len(row['commit']) == 40  # git knows better


def test_speeds(dry):
    _, rows = dry
    timed = [row for row in rows if 'ms' in row]
    assert {'ceilings', 'blocks', 'speed'} == {row['stage'] for row in timed}
    assert all(0 < row['p10'] <= row['ms'] <= row['p90'] for row in timed)
    measured = {(row['job'], row['point']) for row in rows if row['stage'] == 'speed'}
    assert measured == {
        (f'{case} batch {batch} {dtype}', point)
        for case in speed.cases(dry=True)
        for batch in (1, 2)
        for dtype in ('bf16', 'fp32')
        for point in ('dense network', *case.points)
    } | {
        (f'{case} {point} batch 2 bf16 compiled', each)
        for case in speed.cases(dry=True)
        for point in case.compiled
        for each in ('dense network', point)
    }
    assert {row['mode'] for row in rows if row['stage'] == 'blocks'} == {
        'single', 'streamed', 'graphed'
    }  # fmt: skip
    copy = rows[0]
    assert copy['gb_per_s'] == pytest.approx(2 * 2**16 / copy['ms'] * 1e-6)


def test_tests_that_need_cuda_are_found(dry):
    _, rows = dry
    (tests,) = [row for row in rows if row['stage'] == 'tests']
    assert tests['files'] >= 1 and 'error' not in tests['outcome']
    assert ('passed' if torch.cuda.is_available() else 'skipped') in tests['outcome']


@pytest.mark.skipif(not DRY_TRAININGS, reason='the room of the trained config is gone')
def test_trainings_end_in_scores(dry):
    _, rows = dry
    (training,) = [row for row in rows if row['stage'] == 'trainings']
    assert training['seconds'] > 0 and 0 <= training['exit=1/accuracy/top1'] <= 100


@pytest.mark.skipif(not HAS_TRITON, reason='torch came without Triton 3')
def test_interpreted_kernel_is_right(dry):
    _, rows = dry
    checks = [row for row in rows if row['stage'] == 'kernel' and 'error' in row]
    assert all(row['error'] <= row['tolerance'] for row in checks)
    names = [row['job'] for row in checks if row['job'].startswith('kernel')]
    assert len(names) == len(set(names)) == 14  # seven shapes in fp32 and in tf32


def by_position(fault, source, index, matrix, bias, out, out_index, add, relu):
    """gather_gemm by its definition, or with a fault."""
    positions = len(source) if index is None else len(index)
    weights = matrix.t().view(out.shape[1], -1, source.shape[1])  # D, taps, C
    for p in range(positions):
        taps = [p] if index is None else index[p].tolist()
        total = 0 if fault == 'bias' else bias.clone()
        for tap, row in enumerate(taps[:-1] if fault == 'last tap' else taps):
            if row < len(source):
                total = total + weights[:, tap] @ source[row]
            elif fault == 'taps outside':
                total = total + weights[:, tap] @ source[-1]
        target = p if out_index is None or fault == 'scatter' else out_index[p]
        if add and fault != 'add':
            total = total + out[target]
        out[target] = total.relu() if relu and fault != 'relu' else total


@pytest.mark.parametrize(
    ('fault', 'shape'),
    [
        ('bias', kernel.Shape(20, None, 12, 5)),
        ('last tap', kernel.Shape(20, 9, 12, 5)),
        ('taps outside', kernel.Shape(40, 9, 12, 5)),
        ('scatter', kernel.Shape(20, 1, 12, 5, scattered=True)),
        ('add', kernel.Shape(20, 9, 12, 5, add=True)),
        ('relu', kernel.Shape(20, 9, 12, 5, relu=True)),
    ],
)
def test_a_wrong_kernel_is_caught(fault, shape):
    right, wrong = (
        kernel.kernel_error(partial(by_position, each), shape, torch.float32, 'cpu')
        for each in (None, fault)
    )
    assert right <= 1e-6
    assert wrong > 0.05  # far above all tolerances


def test_not_a_number_is_wrong():
    def run(source, index, matrix, bias, out, *_):
        out.fill_(torch.nan)

    shape = kernel.Shape(4, None, 3, 2)
    error = kernel.kernel_error(run, shape, torch.float32, 'cpu')
    with pytest.raises(ArithmeticError, match='wrong results: error inf'):
        list(kernel.judged(error, 0.1))


def run_jobs(folder, plan, seconds=60.0):
    record = Record(folder, dry=True)
    passed = main.run(plan, record.write, time.time() + seconds)
    return passed, rows_in(folder)


@pytest.fixture(autouse=True)
def _variables(monkeypatch):
    for name in ('COMMIT', 'DRIVER'):
        monkeypatch.setenv(f'GPU_CHECK_{name}', 'none')


def good():
    yield dict(value=1.0)


def bad():
    yield from kernel.judged(1.0, 0.1)


def test_a_failed_kernel_check_stops_the_rest(tmp_path):
    plan = [('kernel', 'a', bad), ('kernel', 'b', good), ('speed', 'c', good)]
    passed, rows = run_jobs(tmp_path, plan)
    assert not passed
    assert [row['stage'] for row in rows] == ['kernel'] * 3 + ['summary']
    assert rows[1]['failed'] == 'ArithmeticError: wrong results: error 1, allowed 0.1'
    assert rows[-1]['failed'] == ['kernel: a']
    assert rows[-1]['not_reached'] == ['speed: c']
    assert rows[-1]['ended_by'] == 'a failed kernel check stops the rest'


def test_other_failures_do_not(tmp_path):
    plan = [('blocks', 'a', bad), ('speed', 'b', good)]
    passed, rows = run_jobs(tmp_path, plan)
    assert not passed
    assert rows[-2]['job'] == 'b' and rows[-1]['not_reached'] == []


def test_time_stops_a_job_and_names_it(tmp_path):
    def endless():
        yield dict(value=1)
        while True:
            time.sleep(0.01)

    plan = [('speed', 'a', good), ('speed', 'b', endless), ('trainings', 'c', good)]
    passed, rows = run_jobs(tmp_path, plan, seconds=0.3)
    assert passed
    assert [row['job'] for row in rows] == ['a', 'b', 'all']
    assert rows[-1]['not_reached'] == ['speed: b', 'trainings: c']
    assert rows[-1]['ended_by'] == 'time'


def test_minutes_are_kept(tmp_path):
    done = gpu_check('--out', tmp_path, '--dry', '--minutes', '0.05')
    assert done.returncode == 0, done.stderr
    not_reached = {name.split(':')[0] for name in rows_in(tmp_path)[-1]['not_reached']}
    assert {'blocks', 'speed'} <= not_reached
    assert not DRY_TRAININGS or 'trainings' in not_reached


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_needs_a_gpu(tmp_path):
    done = gpu_check('--out', tmp_path)
    assert done.returncode != 0
    assert 'sees no CUDA device; --dry needs none' in done.stderr


def test_missing_wheels_alone_are_installed(tmp_path):
    wheels = tmp_path / 'whl'
    wheels.mkdir()
    for name in ('torch', 'no_such_package_of_mmdyn'):
        (wheels / f'{name}-9.9-py3-none-any.whl').write_text('no wheel')
    done = gpu_check('--out', tmp_path, '--dry', GPU_DATA=str(tmp_path))
    assert done.returncode != 0
    assert 'no_such_package_of_mmdyn' in done.stderr and 'torch' not in done.stderr


@pytest.mark.parametrize('case', speed.cases(dry=False), ids=str)
def test_compared_networks_have_their_points(case, mmpretrain_scope):
    names = {point.name for point in operating_points(case.model)}
    assert set(case.points) <= names and set(case.compiled) <= set(case.points)
    assert case.dense is None or len(operating_points(case.dense_model)) == 1


def test_trained_configs_exist():
    file = ROOT / 'scripts' / 'gpu_check' / 'trainings.json'
    for plan in json.loads(file.read_text()).values():
        for training in plan['trainings']:
            cfg = Config.fromfile(ROOT / training['config'])
            assert cfg.get('load_from') is None
            for key in plan['overrides']:
                assert key.split('.')[0] in cfg
