"""Create or update ``.venv`` for ``make demo`` or ``make test``.

Usage: ``python tools/dev/environment.py {demo,test}``. The interpreter that runs this
script is the one ``.venv`` gets. The syntax stays within Python 3.6, so that an
unsupported interpreter gets as far as saying that it is one.
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

SUPPORTED = ('3.10', '3.11', '3.12')
TARGETS = ('demo', 'test')
ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / '.venv'
VENV_PYTHON = VENV / 'bin' / 'python'
LOG = ROOT / '.cache' / 'install.log'
PROGRESS_SECONDS = 10
# Lines that hide what pip is doing: a warning for each package that a local index
# lacks, and the removal of the old setuptools, long before it is done.
UNTOLD = re.compile('WARNING: Location|.*(existing install|[Uu]ninstall)')
PIP_INSTALL = (VENV_PYTHON, '-m', 'pip', 'install', '--progress-bar', 'off')


class CommandError(Exception):
    """A command of the set-up failed; the message is for the user."""


def minor_version(version_info) -> str:
    return '{}.{}'.format(*version_info[:2])


def version_problem(version_info) -> str:
    """Say why this Python cannot be used; empty if it can."""
    found = minor_version(version_info)
    if found in SUPPORTED:
        return ''
    return (
        f'Python {found} is not supported; use {", ".join(SUPPORTED)}, '
        f'for example: make demo PYTHON=python{SUPPORTED[-1]}'
    )


def venv_version(venv: Path) -> str:
    """The minor Python version of a virtual environment; empty if it has none."""
    config = venv / 'pyvenv.cfg'
    if not (config.exists() and (venv / 'bin' / 'python').exists()):
        return ''
    found = re.search(r'^version\s*=\s*(\d+\.\d+)', config.read_text(), re.MULTILINE)
    return found.group(1) if found else ''


def fingerprint(root: Path, target: str, python: str) -> str:
    """A hash of everything that decides what the environment should hold."""
    names = ['setup.py', 'requirements/constraints.txt', 'requirements/demo.txt']
    if target == 'test':
        names.append('requirements/test.txt')
    digest = hashlib.sha256(python.encode())
    for name in names:
        digest.update(b'\0' + (root / name).read_bytes())
    return digest.hexdigest()


def stamp(venv: Path, target: str) -> Path:
    return venv / f'{target}.stamp'


def is_current(root: Path, venv: Path, target: str, python: str) -> bool:
    path = stamp(venv, target)
    if venv_version(venv) != python or not path.exists():
        return False
    return path.read_text() == fingerprint(root, target, python)


def write_stamps(root: Path, venv: Path, target: str, python: str) -> None:
    """Mark the environment as complete; what serves the tests serves the demo."""
    for done in TARGETS[: TARGETS.index(target) + 1]:
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


def create_venv() -> None:
    if importlib.util.find_spec('ensurepip') is None:
        python = minor_version(sys.version_info)
        raise CommandError(
            f'{sys.executable} cannot create virtual environments: ensurepip is '
            f'missing; on Debian or Ubuntu: apt install python{python}-venv'
        )
    shutil.rmtree(str(VENV), ignore_errors=True)
    # When .venv's own Python runs this script, it has just been deleted.
    python = getattr(sys, '_base_executable', sys.executable)
    run([python, '-m', 'venv', VENV])


def install_requirements(target: str) -> None:
    files = ['-r', f'requirements/{target}.txt', '-c', 'requirements/constraints.txt']
    run([*PIP_INSTALL, *files])


def prefer_headless_opencv() -> None:
    """Let OpenCV load on machines without the libraries of a display.

    Its two builds, which different packages ask for, share a folder: the one that is
    installed last is imported.
    """
    pin = ['--force-reinstall', '--no-deps', '-c', 'requirements/constraints.txt']
    run([*PIP_INSTALL, *pin, 'opencv-python-headless'])


def install_mmcv_ops() -> None:
    if subprocess.call([str(VENV_PYTHON), 'tools/dev/build_mmcv_ops.py']):
        sys.exit(1)  # it has said why


def install_mmdyn() -> None:
    run([*PIP_INSTALL, '--no-deps', '--no-build-isolation', '-e', '.'])


def has_pip() -> bool:
    """Whether ``.venv`` was created to the end."""
    command = [str(VENV_PYTHON), '-m', 'pip', '--version']
    return subprocess.run(command, stdout=subprocess.DEVNULL).returncode == 0


def steps(target: str, python: str) -> list:
    """What is to be done, as pairs of a title and a function."""
    todo = []
    found = venv_version(VENV)
    if found != python or not has_pip():
        if found and found != python:
            print(f'.venv has Python {found}, not {python}: creating it anew')
        todo.append((f'creating .venv with Python {python} (5 s)', create_venv))
    title = (
        f'installing requirements/{target}.txt: torch, mmengine, mmcv, mmpretrain, ...'
        ' (about 2 minutes; 2 GB to fetch)'
    )
    todo.append((title, lambda: install_requirements(target)))
    todo.append(
        ('choosing the OpenCV that needs no display (5 s)', prefer_headless_opencv)
    )
    if target == 'test':
        todo.append(("looking for mmcv's compiled operators", install_mmcv_ops))
    todo.append(('installing mmdyn (5 s)', install_mmdyn))
    return todo


def update(target: str) -> None:
    python = minor_version(sys.version_info)
    if is_current(ROOT, VENV, target, python):
        return
    todo = steps(target, python)
    for name in TARGETS:
        if stamp(VENV, name).exists():
            stamp(VENV, name).unlink()
    for number, (title, action) in enumerate(todo, 1):
        print(f'[{number}/{len(todo)}] {title}', flush=True)
        action()
    write_stamps(ROOT, VENV, target, python)


def guarded(action) -> None:
    """Call ``action`` and turn its failure into a message and an exit status."""
    try:
        action()
    except CommandError as error:
        sys.exit(f'{error}\nRun the same command again to retry.')
    except KeyboardInterrupt:
        sys.exit('interrupted; run the same command again to continue')


def main() -> None:
    problem = version_problem(sys.version_info)
    if problem:
        sys.stderr.write(problem + '\n')
        sys.exit(2)
    target = sys.argv[1] if len(sys.argv) == 2 else ''
    if target not in TARGETS:
        sys.stderr.write(f'unknown target {target!r}; use one of {TARGETS}\n')
        sys.exit(2)
    os.chdir(str(ROOT))
    guarded(lambda: update(target))


if __name__ == '__main__':
    main()
