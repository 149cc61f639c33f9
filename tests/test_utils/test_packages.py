"""Configs for packages that are missing, or for an mmcv without operators."""

import subprocess
import sys
import textwrap

import pytest
from helpers.paths import ROOT
from mmengine.config import Config, config

from mmdyn.engine.build import build_model, read_config
from mmdyn.utils import packages
from mmdyn.utils.packages import check_packages, config_from_file

INSTALL = (
    "To install it: `pip install 'mmdyn[onedl]'` or `pip install 'mmdyn[openmmlab]'`"
)
MMSEG_BASE = "__import__('mmseg').__path__[0] + '/.mim/configs/x.py'"
MMENGINE_BASE = "'{}::_base_/default_runtime.py'"


@pytest.fixture
def nothing_installed(monkeypatch):
    """No package is there, neither to import nor as a distribution."""
    for module in list(sys.modules):
        if module.split('.')[0] in packages.PACKAGES:
            monkeypatch.delitem(sys.modules, module)
    for package in packages.PACKAGES:
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(config, 'is_installed', lambda distribution: False)


@pytest.fixture
def write_base(tmp_path):
    def write(base):
        (tmp_path / 'config.py').write_text(f'_base_ = {base}')
        return str(tmp_path / 'config.py')

    return write


def raising(error):
    def fail(module):
        raise error

    return fail


@pytest.mark.parametrize('scope', packages.PACKAGES)
def test_missing_scope(scope, nothing_installed):
    with pytest.raises(ImportError) as caught:
        build_model(Config(dict(default_scope=scope)))
    text = str(caught.value)
    assert text.startswith(f'default_scope={scope!r} needs {scope}, which cannot be ')
    assert text.endswith(INSTALL)
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


@pytest.mark.parametrize('scope', [None, 'mmengine', 'mmyolo'])
def test_other_scopes_are_left_to_mmengine(scope, nothing_installed):
    check_packages(Config(dict(default_scope=scope)))


@pytest.mark.parametrize('read', [config_from_file, read_config])
@pytest.mark.parametrize(
    ('base', 'package'),
    [
        (MMENGINE_BASE.format('mmdet'), 'mmdet'),
        (MMENGINE_BASE.format('mmseg'), 'mmseg'),  # as MMEngine says, mmsegmentation
        (MMSEG_BASE, 'mmseg'),
    ],
)
def test_missing_base(read, base, package, nothing_installed, write_base):
    file = write_base(base)
    with pytest.raises(ImportError) as caught:
        read(file)
    text = str(caught.value)
    assert text.startswith(f'{file} needs {package}, which cannot be imported (')
    assert text.endswith(INSTALL)
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_missing_package_of_a_config(nothing_installed):
    with pytest.raises(FileNotFoundError, match="no package 'mmdet' is.*mmdyn.onedl"):
        read_config('mmdet::retinanet/retinanet_r18_fpn_1x_coco.py')


@pytest.mark.parametrize(
    'error',
    [
        AssertionError('MMCV==9.0 is used but incompatible'),
        ModuleNotFoundError("No module named 'ftfy'", name='ftfy'),
        ImportError("cannot import name 'nothing' from 'mmseg'", name='mmseg'),
        ModuleNotFoundError("No module named 'mmseg.nothing'", name='mmseg.nothing'),
    ],
    ids=str,
)
def test_errors_with_other_causes_pass(error, monkeypatch):
    monkeypatch.setattr(packages, 'import_module', raising(error))
    with pytest.raises(type(error)) as caught:
        check_packages(Config(dict(default_scope='mmseg')))
    assert caught.value is error


@pytest.mark.parametrize(
    ('base', 'message'),
    [
        (MMENGINE_BASE.format('mmyolo'), 'mmyolo is not installed, please'),
        # As where the distribution has another name.
        (MMENGINE_BASE.format('mmseg'), 'mmsegmentation is not installed, please'),
        ("__import__('nothing').file", "No module named 'nothing'$"),
    ],
)
def test_other_errors_of_configs_pass(base, message, write_base, monkeypatch):
    monkeypatch.setattr(config, 'is_installed', lambda distribution: False)
    with pytest.raises(ModuleNotFoundError, match=f'^{message}'):
        config_from_file(write_base(base))


def assert_names_operators(text, scope, lacking):
    assert text.startswith(
        f"default_scope='{scope}' needs mmcv.ops, which cannot be imported "
        f"(ModuleNotFoundError: No module named '{lacking}')."
    )
    for line in (
        'pip uninstall onedl-mmcv mmcv mmcv-lite',
        'pip install --no-build-isolation --no-cache-dir --no-binary onedl-mmcv '
        'onedl-mmcv',
        'mim install mmcv',
    ):
        assert f'`{line}`' in text


@pytest.mark.parametrize('lacking', ['mmcv._ext', 'mmcv.ops'])
def test_missing_operators(lacking, monkeypatch):
    error = ModuleNotFoundError(f'No module named {lacking!r}', name=lacking)
    monkeypatch.setattr(packages, 'import_module', raising(error))
    with pytest.raises(ImportError) as caught:
        check_packages(Config(dict(default_scope='mmseg')))
    assert_names_operators(str(caught.value), 'mmseg', lacking)
    assert caught.value.__cause__ is error


def test_training_without_operators(tmp_path):
    (tmp_path / 'config.py').write_text("default_scope = 'mmdet'\nmodel = dict()")
    code = f"""
        import runpy
        import sys

        class Lacking:
            def find_spec(self, name, *_):
                if name == 'mmcv._ext':
                    raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)

        sys.meta_path.insert(0, Lacking())
        sys.argv = ['train.py', 'config.py']
        runpy.run_path({str(ROOT / 'tools/train.py')!r}, run_name='__main__')
    """
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', textwrap.dedent(code)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    *_, line = done.stderr.strip().splitlines()
    assert_names_operators(line.removeprefix('ImportError: '), 'mmdet', 'mmcv._ext')
