import importlib.util
import shutil
import subprocess
import sys

import pytest
from helpers.paths import ROOT


def load(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / 'scripts' / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


environment, build_mmcv_ops = load('environment'), load('build_mmcv_ops')


@pytest.fixture
def root(tmp_path):
    """A project with both environments, of Python 3.11, as yet without stamps."""
    (tmp_path / 'requirements').mkdir()
    for name in ('constraints', 'demo', 'test', 'upstream', 'overrides'):
        (tmp_path / 'requirements' / f'{name}.txt').write_text(f'{name}==1\n')
    (tmp_path / 'setup.py').write_text('setup()\n')
    for venv in (tmp_path / '.venv', tmp_path / '.venv-upstream'):
        (venv / 'bin').mkdir(parents=True)
        (venv / 'bin' / 'python').touch()
        (venv / 'pyvenv.cfg').write_text('home = /usr\nversion_info = 3.11.7\n')
    return tmp_path


@pytest.mark.parametrize('target', ['demo', 'test', 'upstream'])
@pytest.mark.parametrize('version', [(3, 10, 0), (3, 11, 7)])
def test_supported_versions_have_no_problem(version, target):
    assert environment.version_problem(version, target) == ''


@pytest.mark.parametrize('version', [(2, 7, 18), (3, 9, 18), (3, 13, 0)])
def test_other_versions_are_named_with_the_supported_ones(version):
    problem = environment.version_problem(version, 'demo')
    assert f'Python {version[0]}.{version[1]} is not supported' in problem
    assert '3.10, 3.11, 3.12' in problem
    assert 'PYTHON=' in problem
    assert '\n' not in problem


def test_python_3_12_is_for_the_default_stack_only():
    assert environment.version_problem((3, 12, 1), 'demo') == ''
    assert environment.version_problem((3, 12, 1), 'test') == ''
    assert environment.version_problem((3, 12, 1), 'upstream') == (
        'Python 3.12 is not supported; use 3.10, 3.11, '
        'for example: make test-upstream PYTHON=python3.11'
    )


def test_venv_version_is_read_from_its_configuration(root):
    assert environment.venv_version(root / '.venv') == '3.11'
    (root / '.venv' / 'pyvenv.cfg').write_text('version = 3.10.1\n')  # as pip's venv says
    assert environment.venv_version(root / '.venv') == '3.10'


def test_venv_without_an_interpreter_has_no_version(root):
    (root / '.venv' / 'bin' / 'python').unlink()
    assert environment.venv_version(root / '.venv') == ''
    assert environment.venv_version(root / 'absent') == ''


def test_environment_without_a_stamp_is_out_of_date(root):
    assert not environment.is_current(root, 'demo', '3.11')


def test_test_environment_serves_the_demo_but_not_the_reverse(root):
    environment.write_stamp(root, 'demo', '3.11')
    assert environment.is_current(root, 'demo', '3.11')
    assert not environment.is_current(root, 'test', '3.11')
    environment.write_stamp(root, 'test', '3.11')
    assert environment.is_current(root, 'demo', '3.11')
    assert environment.is_current(root, 'test', '3.11')


def test_the_two_environments_are_apart(root):
    environment.write_stamp(root, 'test', '3.11')
    assert not environment.is_current(root, 'upstream', '3.11')
    environment.write_stamp(root, 'upstream', '3.11')
    shutil.rmtree(root / '.venv')
    assert environment.is_current(root, 'upstream', '3.11')
    assert not environment.is_current(root, 'demo', '3.11')


def test_environment_of_another_python_is_out_of_date(root):
    environment.write_stamp(root, 'test', '3.11')
    assert not environment.is_current(root, 'demo', '3.12')


@pytest.mark.parametrize('name', ['setup.py', 'requirements/constraints.txt'])
def test_changed_file_outdates_what_depends_on_it(root, name):
    for target in ('test', 'upstream'):
        environment.write_stamp(root, target, '3.11')
    assert all(environment.is_current(root, t, '3.11') for t in environment.TARGETS)
    (root / name).write_text('changed\n')
    assert not any(environment.is_current(root, t, '3.11') for t in environment.TARGETS)


PIP_CONFIG = """\
:env:.find-links='/wheels /more'
global.constraint='/etc/constraints.txt'
global.extra-index-url='file:///a/simple\\nfile:///b/simple'
global.find-links='/overruled'
global.index-url='https://mirror/simple'
global.no-index='false'
install.default-timeout='180'
global.cert='/ca.crt'
"""


def test_uv_gets_the_settings_of_pip():
    arguments, variables = environment.uv_settings(PIP_CONFIG)
    assert arguments == [
        *('--index-strategy', 'unsafe-best-match'),
        *('--default-index', 'https://mirror/simple'),
        *('--index', 'file:///a/simple', '--index', 'file:///b/simple'),
        *('--find-links', '/wheels', '--find-links', '/more'),
        *('--constraint', '/etc/constraints.txt'),
    ]
    assert variables == dict(SSL_CERT_FILE='/ca.crt', UV_HTTP_TIMEOUT='180')
    assert environment.uv_settings('') == (['--index-strategy', 'unsafe-best-match'], {})
    assert '--no-index' in environment.uv_settings(":env:.no-index='1'\n")[0]


def test_failed_step_ends_the_set_up(capfd):
    with pytest.raises(SystemExit, match='failed: .*\nRun the same command again'):
        environment.run(sys.executable, '-c', 'raise SystemExit(1)')


def test_progress_of_the_compiler_is_its_count(tmp_path, monkeypatch):
    monkeypatch.setattr(build_mmcv_ops, 'LOG', tmp_path / 'log')
    build_mmcv_ops.LOG.write_text('one\n[3/78] c++ -O1 -c nms.cpp\n')
    assert build_mmcv_ops.latest_line() == '[3/78] files'
    build_mmcv_ops.LOG.write_text('')
    assert build_mmcv_ops.latest_line() == '...'


def test_failed_command_reports_its_output_and_the_log(tmp_path, monkeypatch):
    monkeypatch.setattr(build_mmcv_ops, 'LOG', tmp_path / 'new' / 'log')
    command = [sys.executable, '-c', 'print("no such package"); raise SystemExit(1)']
    with pytest.raises(build_mmcv_ops.CommandError) as error:
        build_mmcv_ops.run(command)
    assert 'no such package' in str(error.value)
    assert str(build_mmcv_ops.LOG) in str(error.value)


def test_missing_compiler_is_named(monkeypatch):
    with pytest.raises(build_mmcv_ops.CommandError, match=r'c\+\+-9 not found.*apt inst'):
        build_mmcv_ops.check_compiler('c++-9')


@pytest.mark.parametrize('arguments', [[], ['domo'], ['demo', 'test']])
def test_unknown_target_is_refused(arguments):
    command = [sys.executable, str(ROOT / 'scripts' / 'environment.py'), *arguments]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2
    assert "use one of ('demo', 'test', 'upstream')" in result.stderr
