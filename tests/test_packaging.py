"""The wheel holds what `mim train mmdyn CONFIG` looks for."""

import shutil
import subprocess
import sys
import zipfile

from helpers.paths import CONFIGS, ROOT

FILES = (
    'setup.py',
    'MANIFEST.in',
    'README.md',
    'LICENSE',
    'model-index.yml',
    'pyproject.toml',
)


def test_wheel_holds_configs_and_tools(tmp_path):
    source = tmp_path / 'source'
    source.mkdir()
    for name in FILES:
        shutil.copy(ROOT / name, source)
    for name in ('mmdyn', 'configs', 'tools', 'scripts'):
        ignored = shutil.ignore_patterns('.mim', '__pycache__')
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    subprocess.run(
        [sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps', '--no-build-isolation']
        + ['-w', str(tmp_path), str(source)],
        check=True,
    )
    (wheel,) = tmp_path.glob('mmdyn-*.whl')
    names = zipfile.ZipFile(wheel).namelist()
    config = next(CONFIGS.glob('*/*_digits.py')).relative_to(CONFIGS).as_posix()
    for name in (
        'mmdyn/.mim/tools/train.py',
        'mmdyn/.mim/tools/analysis_tools/benchmark.py',
        'mmdyn/.mim/tools/dist_train.sh',
        f'mmdyn/.mim/configs/{config}',
        'mmdyn/.mim/configs/_base_/default_runtime.py',
        'mmdyn/.mim/model-index.yml',
        'mmdyn/models/resnet.py',
    ):
        assert name in names
    assert not any(name.startswith(('tests/', 'tools/', 'scripts/')) for name in names)
    assert not any('environment.py' in name or '/dev/' in name for name in names)
