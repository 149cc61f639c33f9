"""Create or update the environment of ``make demo``, ``test`` or ``test-upstream``.

Usage: ``python scripts/environment.py {demo,test,upstream}``. The interpreter that runs
this script is the one the environment gets; uv, kept in ``.cache/uv``, installs the
packages, from where pip's settings (``PIP_INDEX_URL``, ``PIP_FIND_LINKS``, pip.conf) say.
The syntax stays within Python 3.6, so that an unsupported interpreter gets as far as
saying that it is one.
"""

import ast
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
UV = ROOT / '.cache' / 'uv' / 'bin' / 'uv'
UV_VERSION = '0.13.9'
OVERRIDES = 'requirements/overrides.txt'
# pip's settings as arguments of uv, and as its environment variables.
ARGUMENTS = {
    'index-url': '--default-index',
    'extra-index-url': '--index',
    'find-links': '--find-links',
    'constraint': '--constraint',
    'trusted-host': '--allow-insecure-host',
}
VARIABLES = {'cert': 'SSL_CERT_FILE', 'timeout': 'UV_HTTP_TIMEOUT', 'proxy': 'ALL_PROXY'}

Stack = namedtuple('Stack', 'folder targets pythons constraints example')
# Two environments, since the stacks share import names. Each target adds packages to
# those of the one before. torch 2.1 has no wheels for Python 3.12.
ONEDL = Stack(
    '.venv', ('demo', 'test'), ('3.10', '3.11', '3.12'), 'constraints', 'make demo'
)
UPSTREAM = Stack(
    '.venv-upstream', ('upstream',), ('3.10', '3.11'), 'upstream-constraints',
    'make test-upstream',
)  # fmt: skip
STACKS = {target: stack for stack in (ONEDL, UPSTREAM) for target in stack.targets}
TARGETS = tuple(STACKS)


def version_problem(version_info, target: str) -> str:
    """Say why this Python cannot be used; empty if it can."""
    found, stack = '{}.{}'.format(*version_info[:2]), STACKS[target]
    if found in stack.pythons:
        return ''
    return (
        f'Python {found} is not supported; use {", ".join(stack.pythons)}, '
        f'for example: {stack.example} PYTHON=python{stack.pythons[-1]}'
    )


def venv_version(venv: Path) -> str:
    """The minor Python version of a virtual environment; empty if it has none."""
    config = venv / 'pyvenv.cfg'
    if not (config.exists() and (venv / 'bin' / 'python').exists()):
        return ''
    pattern = r'^version(?:_info)?\s*=\s*(\d+\.\d+)'
    found = re.search(pattern, config.read_text(), re.MULTILINE)
    return found.group(1) if found else ''


def fingerprint(root: Path, python: str) -> str:
    """A hash of everything that decides what the environments should hold."""
    digest = hashlib.sha256(python.encode())
    for file in [root / 'setup.py', *sorted((root / 'requirements').glob('*.txt'))]:
        digest.update(b'\0' + file.read_bytes())
    return digest.hexdigest()


def stamp(root: Path, target: str) -> Path:
    return root / STACKS[target].folder / 'complete'


def is_current(root: Path, target: str, python: str) -> bool:
    path = stamp(root, target)
    if venv_version(path.parent) != python or not path.exists():
        return False
    return f'{target} {fingerprint(root, python)}' in path.read_text()


def write_stamp(root: Path, target: str, python: str) -> None:
    """Mark the environment as complete; what serves the tests serves the demo."""
    targets = STACKS[target].targets
    done = targets[: targets.index(target) + 1]
    found = fingerprint(root, python)
    stamp(root, target).write_text(''.join(f'{each} {found}\n' for each in done))


def uv_settings(pip_config: str) -> tuple:
    """Arguments and environment variables that make uv do what pip is configured for.

    Args:
        pip_config (str): Output of ``pip config list``.
    """
    found = {}
    lines = [line.partition('=') for line in pip_config.splitlines() if '=' in line]
    for scope in ('global.', 'install.', ':env:.'):  # later ones win
        for name, _, value in lines:
            if name.startswith(scope):
                key = name[len(scope) :].replace('default-timeout', 'timeout')
                found[key] = ast.literal_eval(value).split()
    # As pip does, take the best version that any index has.
    arguments = ['--index-strategy', 'unsafe-best-match']
    for name, argument in ARGUMENTS.items():
        for value in found.get(name, []):
            arguments += [argument, value]
    if found.get('no-index', ['0']) not in (['0'], ['false'], ['no']):
        arguments.append('--no-index')
    return arguments, {VARIABLES[n]: v[0] for n, v in found.items() if n in VARIABLES}


def run(*command, **variables) -> None:
    """Run a command of the set-up, or end with what failed."""
    words = [str(word) for word in command]
    if subprocess.call(words, cwd=str(ROOT), env={**os.environ, **variables}):
        failed = ' '.join(words)
        sys.exit(f'failed: {failed}\nRun the same command again to retry.')


def install_uv(python: str) -> None:
    folder = UV.parents[1]
    shutil.rmtree(str(folder), ignore_errors=True)  # of an interrupted run
    run(python, '-m', 'venv', folder)
    run(folder / 'bin' / 'python', '-m', 'pip', 'install', '-q', f'uv=={UV_VERSION}')


def update(target: str, version: str) -> None:
    venv = ROOT / STACKS[target].folder
    # When the environment's own Python runs this script, it may be deleted below.
    python = getattr(sys, '_base_executable', sys.executable)
    if not UV.exists():
        print('fetching uv, which installs the packages', flush=True)
        install_uv(python)
    if stamp(ROOT, target).exists():
        stamp(ROOT, target).unlink()
    if venv_version(venv) != version:
        print(f'creating {venv.name} with Python {version}', flush=True)
        run(UV, 'venv', '-q', '--clear', '--seed', '--python', python, venv)
    print(
        f'installing requirements/{target}.txt: torch, mmengine, mmcv, mmpretrain, ... '
        f'(1 to 3 minutes; 2 GB to fetch)',
        flush=True,
    )
    list_settings = [str(UV.parent / 'python'), '-m', 'pip', 'config', 'list']
    arguments, variables = uv_settings(subprocess.check_output(list_settings).decode())
    files = ['-r', f'requirements/{target}.txt', '-e', '.', '--override', OVERRIDES]
    files += ['--constraint', f'requirements/{STACKS[target].constraints}.txt']
    own = venv / 'bin' / 'python'
    run(UV, 'pip', 'install', '--python', own, *files, *arguments, **variables)
    if target == 'test':
        print("looking for mmcv's compiled operators", flush=True)
        run(own, 'scripts/build_mmcv_ops.py')
    write_stamp(ROOT, target, version)


def main() -> None:
    target = sys.argv[1] if len(sys.argv) == 2 else ''
    if target not in TARGETS:
        sys.stderr.write(f'unknown target {target!r}; use one of {TARGETS}\n')
        sys.exit(2)
    problem = version_problem(sys.version_info, target)
    if problem:
        sys.stderr.write(problem + '\n')
        sys.exit(2)
    version = '{}.{}'.format(*sys.version_info[:2])
    try:
        if not is_current(ROOT, target, version):
            update(target, version)
    except KeyboardInterrupt:
        sys.exit('interrupted; run the same command again to continue')


if __name__ == '__main__':
    main()
