"""Trainings through ``tools/train.py``, as many as the time allows.

``trainings.json`` lists them: a config, its seeds and overrides. ``prepare`` is a command
that writes the data of all, ``overrides`` are those of all. ``{data}`` is a folder to
fill, ``{carried}`` the one of carried files, ``{python}`` the interpreter.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from gpu_check import ROOT


def jobs(args) -> dict:
    lists = json.loads(Path(__file__).with_name('trainings.json').read_text())
    plan = lists['dry' if args.dry else 'full']
    return {
        f'{Path(training["config"]).stem} seed {seed}': partial(
            _rows, args, plan, training, seed
        )
        for training in plan['trainings']
        for seed in training['seeds']
    }


def _rows(args, plan: dict, training: dict, seed: int) -> Iterator[dict]:
    scratch = Path(os.environ['GPU_CHECK_SCRATCH'])
    data, work_dir = scratch / 'data', Path(tempfile.mkdtemp(dir=scratch))
    places = dict(data=data, carried=os.environ['GPU_DATA'], python=sys.executable)
    options = {**plan['overrides'], **training['overrides'], 'randomness.seed': seed}
    options = [f'{key}={value}'.format(**places) for key, value in options.items()]
    train = [sys.executable, '-W', 'ignore', 'tools/train.py', training['config']]
    train += ['--work-dir', work_dir, '--cfg-options', *options]
    with (args.out / 'trainings.log').open('a') as log:
        run = partial(subprocess.run, stdout=log, stderr=log, cwd=ROOT, check=True)
        if not data.exists():
            data.mkdir()
            run([part.format(**places) for part in plan['prepare']])
        start = time.perf_counter()
        run(train)
    (scalars,) = work_dir.glob('*/vis_data/scalars.json')
    rows = [json.loads(line) for line in scalars.read_text().splitlines()]
    scores = [row for row in rows if 'loss' not in row][-1]
    yield dict(seconds=time.perf_counter() - start, **scores)
