"""Every tool shows its help before it imports torch or MMEngine."""

import subprocess
import sys

import pytest
from helpers.paths import ROOT
from helpers.tools import ENVIRONMENT

TOOLS = sorted(
    str(path.relative_to(ROOT))
    for path in (ROOT / 'tools').rglob('*.py')
    if "__name__ == '__main__'" in path.read_text()
)
SHOW_HELP = """
import contextlib, os, runpy, sys
script = sys.argv[1]
sys.argv[1:] = ['--help']
sys.path[0] = os.path.dirname(script)
with contextlib.suppress(SystemExit):
    runpy.run_path(script, run_name='__main__')
heavy = {'torch', 'mmengine', 'mmcv', 'mmpretrain', 'matplotlib'} & set(sys.modules)
assert not heavy, heavy
"""


@pytest.mark.parametrize('tool', TOOLS)
def test_help_needs_no_torch_and_shows_an_example(tool):
    done = subprocess.run(
        [sys.executable, '-c', SHOW_HELP, tool],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith('usage: ')
    assert 'example' in done.stdout and f'python {tool} ' in done.stdout


def test_there_are_tools():
    assert {'tools/train.py', 'tools/test.py'} <= set(TOOLS)
