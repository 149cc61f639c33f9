"""Run tools as a user does, without the seconds that each would take to import torch.

They run in children of a process that has imported it and the packages around it.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

from helpers.paths import ROOT

TIMEOUT = 300

_forking = multiprocessing.get_context('forkserver')
_forking.set_forkserver_preload(
    [
        'torch.utils.flop_counter',
        'mmpretrain.datasets',
        'mmpretrain.evaluation',
        'mmpretrain.models',
        'mmseg.datasets',
        'mmseg.evaluation',
        'mmseg.models',
        'mmdet.datasets',
        'mmdet.evaluation',
        'mmdet.models',
        'mmdyn.engine.loops',
        'mmdyn.engine.runner',
        'matplotlib.figure',
        'rich.progress',
    ]
)


def run_script(script, arguments):
    """Run a script of the project; returns the finished process with its output."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, 'out'), Path(folder, 'err')
        process = _forking.Process(target=_run, args=(script, arguments, out, err))
        process.start()
        process.join(TIMEOUT)
        if process.is_alive():
            process.kill()
            raise subprocess.TimeoutExpired(script, TIMEOUT)
        return subprocess.CompletedProcess(
            [script, *arguments], process.exitcode, out.read_text(), err.read_text()
        )


def _run(script, arguments, out, err):
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    sys.stdout, sys.stderr = os.fdopen(1, 'w'), os.fdopen(2, 'w')
    warnings.simplefilter('ignore')
    os.chdir(ROOT)
    sys.argv = [script, *arguments]
    sys.path[0:0] = [str((ROOT / script).parent), str(ROOT)]
    runpy.run_path(str(ROOT / script), run_name='__main__')
