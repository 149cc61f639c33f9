"""The tests that need a GPU, which are skipped elsewhere."""

import subprocess
import sys

from gpu_check import ROOT

LIMIT = 90
"""Seconds."""


def jobs(args) -> dict:
    def run():
        # To collect all files would take longer than these tests.
        mark = 'skipif(not torch.cuda.is_available()'
        files = [f for f in ROOT.glob('tests/**/test_*.py') if mark in f.read_text()]
        command = [sys.executable, '-m', 'pytest', '-p', 'no:cacheprovider', '-rfEs']
        command += ['-k', 'gpu or cuda', *files]
        log = args.out / 'tests.log'
        with log.open('w') as to:
            options = dict(stdout=to, stderr=to, timeout=LIMIT, cwd=ROOT)
            done = subprocess.run(command, **options)
        yield dict(outcome=log.read_text().splitlines()[-1], files=len(files))
        done.check_returncode()

    return {'tests that need CUDA': run}
