"""Create or update the environment of ``make demo``, ``test`` or ``test-upstream``.

Usage: ``python tools/dev/environment.py {demo,test,upstream}``. The interpreter that
runs this script is the one the environment gets. The syntax stays within Python 3.6, so
that an unsupported interpreter gets as far as saying that it is one.
"""

import contextlib
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
LOG = ROOT / '.cache' / 'install.log'
PROGRESS_SECONDS = 10
# Lines that hide what pip is doing: a warning for each package that a local index
# lacks, and the removal of the old setuptools, long before it is done.
UNTOLD = re.compile('WARNING: Location|.*(existing install|[Uu]ninstall)')
PIP_INSTALL = ('-m', 'pip', 'install', '--progress-bar', 'off')


class Stack(NamedTuple):
    """One environment; each of its targets adds packages to those of the one before."""

    folder: str
    targets: tuple
    supported: tuple
    constraints: str
    example: str


# Two environments, since the stacks share import names.
ONEDL = Stack(
    folder='.venv',
    targets=('demo', 'test'),
    supported=('3.10', '3.11', '3.12'),
    constraints='requirements/constraints.txt',
    example='make demo',
)
UPSTREAM = Stack(
    folder='.venv-upstream',
    targets=('upstream',),
    supported=('3.10', '3.11'),  # torch 2.1 has no wheels for 3.12
    constraints='requirements/upstream-constraints.txt',
    example='make test-upstream',
)
TARGETS = ONEDL.targets + UPSTREAM.targets


class CommandError(Exception):
    """A command of the set-up failed; the message is for the user."""


def minor_version(version_info) -> str:
    return '{}.{}'.format(*version_info[:2])


def stack_of(target: str) -> Stack:
    return UPSTREAM if target in UPSTREAM.targets else ONEDL


def included(target: str) -> tuple:
    """The targets that an environment made for this one serves."""
    targets = stack_of(target).targets
    return targets[: targets.index(target) + 1]


def version_problem(version_info, target: str) -> str:
    """Say why this Python cannot be used; empty if it can."""
    found = minor_version(version_info)
    stack = stack_of(target)
    if found in stack.supported:
        return ''
    return (
        f'Python {found} is not supported; use {", ".join(stack.supported)}, '
        f'for example: {stack.example} PYTHON=python{stack.supported[-1]}'
    )


def python_of(venv: Path) -> Path:
    return venv / 'bin' / 'python'


def venv_version(venv: Path) -> str:
    """The minor Python version of a virtual environment; empty if it has none."""
    config = venv / 'pyvenv.cfg'
    if not (config.exists() and python_of(venv).exists()):
        return ''
    found = re.search(r'^version\s*=\s*(\d+\.\d+)', config.read_text(), re.MULTILINE)
    return found.group(1) if found else ''


def fingerprint(root: Path, target: str, python: str) -> str:
    """A hash of everything that decides what the environment should hold."""
    names = ['setup.py', stack_of(target).constraints]
    names += [f'requirements/{name}.txt' for name in included(target)]
    digest = hashlib.sha256(python.encode())
    for name in names:
        digest.update(b'\0' + (root / name).read_bytes())
    return digest.hexdigest()


def stamp(venv: Path, target: str) -> Path:
    return venv / f'{target}.stamp'


def is_current(root: Path, target: str, python: str) -> bool:
    venv = root / stack_of(target).folder
    path = stamp(venv, target)
    if venv_version(venv) != python or not path.exists():
        return False
    return path.read_text() == fingerprint(root, target, python)


def write_stamps(root: Path, target: str, python: str) -> None:
    """Mark the environment as complete; what serves the tests serves the demo."""
    venv = root / stack_of(target).folder
    for done in included(target):
        stamp(venv, done).write_text(fingerprint(root, done, python))


def last_lines(log: Path, count: int) -> list:
    lines = log.read_text(errors='replace').splitlines()
    return [line for line in lines if not UNTOLD.match(line)][-count:]


def run(command, **options) -> None:
    """Run a command with its output in the log, showing the latest line at times."""
    LOG.parent.mkdir(exist_ok=True)
    command = [str(word) for word in command]
    start = time.time()
    with LOG.open('w') as log:
        process = subprocess.Popen(
            command, cwd=str(ROOT), stdout=log, stderr=subprocess.STDOUT, **options
        )
        try:
            while process.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(PROGRESS_SECONDS)
                show_progress(time.time() - start, process)
        finally:
            process.kill()
            process.wait()
    if process.returncode:
        shown = '\n'.join('    ' + line for line in last_lines(LOG, 20))
        raise CommandError(f'{shown}\nfailed: {" ".join(command)}\nfull log: {LOG}')


def show_progress(seconds: float, process) -> None:
    if process.poll() is None:
        latest = ' '.join(last_lines(LOG, 1)).strip()
        # Of a compiler's command line only the count before it is telling.
        latest = re.sub(r'^(\[\d+/\d+\]) .*', r'\1 files', latest)
        print(f'      {seconds:4.0f} s  {latest[:66] or "..."}', flush=True)


def create_venv(venv: Path) -> None:
    if importlib.util.find_spec('ensurepip') is None:
        python = minor_version(sys.version_info)
        raise CommandError(
            f'{sys.executable} cannot create virtual environments: ensurepip is '
            f'missing; on Debian or Ubuntu: apt install python{python}-venv'
        )
    shutil.rmtree(str(venv), ignore_errors=True)
    # When the environment's own Python runs this script, it has just been deleted.
    python = getattr(sys, '_base_executable', sys.executable)
    run([python, '-m', 'venv', venv])


def install_requirements(python: Path, target: str) -> None:
    files = ['-r', f'requirements/{target}.txt', '-c', stack_of(target).constraints]
    run([python, *PIP_INSTALL, *files])


def prefer_headless_opencv(python: Path, constraints: str) -> None:
    """Let OpenCV load on machines without the libraries of a display.

    Its two builds, which different packages ask for, share a folder: the one that is
    installed last is imported.
    """
    pin = ['--force-reinstall', '--no-deps', '-c', constraints]
    run([python, *PIP_INSTALL, *pin, 'opencv-python-headless'])


def install_mmcv_ops(python: Path) -> None:
    if subprocess.call([str(python), 'tools/dev/build_mmcv_ops.py']):
        sys.exit(1)  # it has said why


def install_mmdyn(python: Path) -> None:
    run([python, *PIP_INSTALL, '--no-deps', '--no-build-isolation', '-e', '.'])


def has_pip(venv: Path) -> bool:
    """Whether the environment was created to the end."""
    command = [str(python_of(venv)), '-m', 'pip', '--version']
    return subprocess.run(command, stdout=subprocess.DEVNULL).returncode == 0


def creation(venv: Path, python: str) -> list:
    """The step that makes an environment, unless it is there; as ``steps`` gives it."""
    found = venv_version(venv)
    if found == python and has_pip(venv):
        return []
    if found and found != python:
        print(f'{venv.name} has Python {found}, not {python}: creating it anew')
    title = f'creating {venv.name} with Python {python} (5 s)'
    return [(title, lambda: create_venv(venv))]


def steps(target: str, python: str) -> list:
    """What is to be done, as pairs of a title and a function."""
    stack = stack_of(target)
    venv = ROOT / stack.folder
    own = python_of(venv)
    todo = creation(venv, python)
    title = (
        f'installing requirements/{target}.txt: torch, mmengine, mmcv, mmpretrain, ...'
        ' (about 2 minutes; 2 GB to fetch)'
    )
    todo.append((title, lambda: install_requirements(own, target)))
    title = 'choosing the OpenCV that needs no display (5 s)'
    todo.append((title, lambda: prefer_headless_opencv(own, stack.constraints)))
    if target == 'test':
        title = "looking for mmcv's compiled operators"
        todo.append((title, lambda: install_mmcv_ops(own)))
    todo.append(('installing mmdyn (5 s)', lambda: install_mmdyn(own)))
    return todo


def update(target: str) -> None:
    python = minor_version(sys.version_info)
    if is_current(ROOT, target, python):
        return
    todo = steps(target, python)
    stack = stack_of(target)
    for name in stack.targets:
        if stamp(ROOT / stack.folder, name).exists():
            stamp(ROOT / stack.folder, name).unlink()
    for number, (title, action) in enumerate(todo, 1):
        print(f'[{number}/{len(todo)}] {title}', flush=True)
        action()
    write_stamps(ROOT, target, python)


def guarded(action) -> None:
    """Call ``action`` and turn its failure into a message and an exit status."""
    try:
        action()
    except CommandError as error:
        sys.exit(f'{error}\nRun the same command again to retry.')
    except KeyboardInterrupt:
        sys.exit('interrupted; run the same command again to continue')


def main() -> None:
    target = sys.argv[1] if len(sys.argv) == 2 else ''
    if target not in TARGETS:
        sys.stderr.write(f'unknown target {target!r}; use one of {TARGETS}\n')
        sys.exit(2)
    problem = version_problem(sys.version_info, target)
    if problem:
        sys.stderr.write(problem + '\n')
        sys.exit(2)
    os.chdir(str(ROOT))
    guarded(lambda: update(target))


if __name__ == '__main__':
    main()
