"""Give the mmcv of ``.venv`` its compiled CPU operators.

PyPI offers mmcv as a source archive only, and pip makes a wheel without operators of
it. This script, run by ``.venv``'s Python after torch is installed, takes a wheel that
has them where pip offers one, and else compiles them. A compiled wheel is kept in
``.cache/wheels``, so that a new ``.venv`` need not compile again.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOG = ROOT / '.cache' / 'build.log'
PROGRESS_SECONDS = 10
BUILD = ROOT / '.cache' / 'mmcv-build'
HEADER = 'mmcv/ops/csrc/common/pytorch_cpp_helper.hpp'
# In place of Python's own -g -O3, which take longer than the tests can win back. A
# precompiled header only serves files compiled with the same flags and defines.
FLAGS = ['-O1', '-g0', '-fPIC']
DEFINES = ['-DTORCH_API_INCLUDE_EXTENSION_H', '-DTORCH_EXTENSION_NAME=_ext']
PIP = [sys.executable, '-m', 'pip']
PIN = ['--no-deps', '--no-cache-dir', '-c', ROOT / 'requirements/constraints.txt']
USE_OPS = """
import torch
from mmcv.ops import RoIAlign, nms
boxes = torch.tensor([[0., 0., 9., 9.], [0., 0., 9., 8.], [20., 20., 29., 29.]])
assert nms(boxes, torch.tensor([.9, .8, .7]), .5)[1].tolist() == [0, 2]
RoIAlign(2)(torch.ones(1, 1, 8, 8), torch.tensor([[0., 0., 0., 4., 4.]]))
"""


class CommandError(Exception):
    """A command failed; the message is for the user."""


def run(command: list, **options) -> None:
    """Run a command with its output in the log, showing the latest line at times."""
    LOG.parent.mkdir(exist_ok=True)
    command = [str(word) for word in command]
    start = time.time()
    with LOG.open('w') as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, **options)
        try:
            while process.poll() is None:
                try:
                    process.wait(PROGRESS_SECONDS)
                except subprocess.TimeoutExpired:
                    print(
                        f'      {time.time() - start:4.0f} s  {latest_line()}', flush=True
                    )
        finally:
            process.kill()
            process.wait()
    if process.returncode:
        shown = '\n'.join('    ' + line for line in log_lines()[-20:])
        raise CommandError(f'{shown}\nfailed: {" ".join(command)}\nfull log: {LOG}')


def log_lines() -> list[str]:
    return LOG.read_text(errors='replace').splitlines()


def latest_line() -> str:
    """The last line of the log, of a compiler's command line only the count before it."""
    line = ''.join(log_lines()[-1:]).strip()
    return re.sub(r'^(\[\d+/\d+\]) .*', r'\1 files', line)[:66] or '...'


def succeeds(action) -> bool:
    try:
        action()
    except CommandError:
        return False
    return True


def use_ops() -> None:
    # In a process of its own, which sees the mmcv that was installed last.
    run([sys.executable, '-c', USE_OPS])


def wheel_folder() -> Path:
    """Operators only work with the torch they were compiled for."""
    import torch

    return ROOT / '.cache' / 'wheels' / f'torch-{torch.__version__}'


def install_wheel() -> None:
    """Install the wheel that was compiled earlier or that pip's settings offer."""
    folder = wheel_folder()
    folder.mkdir(parents=True, exist_ok=True)
    only_wheels = ['--only-binary', ':all:', '--find-links', folder]
    options = ['--force-reinstall', *only_wheels, *PIN]
    run([*PIP, 'install', *options, 'onedl-mmcv'])


def check_headers() -> None:
    folder = sysconfig.get_path('include')
    if not Path(folder, 'Python.h').exists():
        version = sysconfig.get_python_version()
        raise CommandError(
            f'{folder}/Python.h not found: mmcv needs the headers of Python; '
            f'on Debian or Ubuntu: apt install python{version}-dev'
        )


def check_compiler(compiler: str) -> None:
    if not shutil.which(compiler):
        raise CommandError(
            f'{compiler} not found: mmcv needs a C++17 compiler; '
            'on Debian or Ubuntu: apt install g++'
        )


def fetch_source() -> Path:
    """Fetch and unpack mmcv's source archive."""
    source = ['--no-binary', 'onedl-mmcv', '--no-build-isolation', '-d', BUILD]
    run([*PIP, 'download', *source, *PIN, 'onedl-mmcv'])
    (archive,) = BUILD.glob('*.tar.gz')
    shutil.unpack_archive(archive, BUILD)
    return BUILD / archive.name[: -len('.tar.gz')]


def is_gcc(compiler: str) -> bool:
    version = subprocess.check_output([compiler, '--version'], text=True)
    return 'Free Software Foundation' in version


def precompile_header(compiler: str, source: Path) -> None:
    """Compile once the headers of torch, most of the work in every file."""
    import torch

    torch_headers = Path(torch.__file__).parent / 'include'
    includes = [f'-I{torch_headers}', f'-I{torch_headers}/torch/csrc/api/include']
    header = ['-x', 'c++-header', source / HEADER, '-o', source / f'{HEADER}.gch']
    run([compiler, *FLAGS, '-std=c++17', *DEFINES, *includes, *header])


def build_environment(precompiled: bool) -> dict[str, str]:
    flags = FLAGS + (['-include', Path(HEADER).name] if precompiled else [])
    return {
        **os.environ,
        'CFLAGS': ' '.join(flags),
        'CUDA_VISIBLE_DEVICES': '',  # or mmcv compiles for the GPU as well
        'MAX_JOBS': str(os.cpu_count()),
        'PATH': f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}',
    }


def build_wheel(compiler: str) -> None:
    shutil.rmtree(BUILD, ignore_errors=True)  # of an interrupted run
    source = fetch_source()
    precompiled = is_gcc(compiler) and succeeds(
        lambda: precompile_header(compiler, source)
    )
    if not precompiled:
        print('      no precompiled headers: about 15 minutes', flush=True)
    wheel = [*PIP, 'wheel', '-v', '--no-build-isolation', '-w', wheel_folder()]
    run([*wheel, *PIN, source], env=build_environment(precompiled))
    shutil.rmtree(BUILD)


def main() -> None:
    if succeeds(use_ops) or (succeeds(install_wheel) and succeeds(use_ops)):
        return
    compiler = os.environ.get('CXX', 'c++')
    check_compiler(compiler)
    check_headers()
    print(
        '      pip offers none: compiling the headers of torch, then 78 files, with '
        f'{os.cpu_count()} jobs\n      (3 minutes on 2 idle cores)',
        flush=True,
    )
    build_wheel(compiler)
    install_wheel()
    use_ops()


if __name__ == '__main__':
    try:
        main()
    except CommandError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
