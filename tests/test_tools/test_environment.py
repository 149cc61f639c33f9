import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / 'tools' / 'dev' / 'environment.py'
spec = importlib.util.spec_from_file_location('environment', SCRIPT)
environment = importlib.util.module_from_spec(spec)
spec.loader.exec_module(environment)


@pytest.fixture
def root(tmp_path):
    """A project with both environments, of Python 3.11, as yet without stamps."""
    (tmp_path / 'requirements').mkdir()
    for name in ('constraints', 'demo', 'test', 'upstream-constraints', 'upstream'):
        (tmp_path / 'requirements' / f'{name}.txt').write_text(f'{name}==1\n')
    (tmp_path / 'setup.py').write_text('setup()\n')
    for venv in (tmp_path / '.venv', tmp_path / '.venv-upstream'):
        (venv / 'bin').mkdir(parents=True)
        (venv / 'bin' / 'python').touch()
        (venv / 'pyvenv.cfg').write_text('home = /usr\nversion = 3.11.7\n')
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


def test_venv_without_an_interpreter_has_no_version(root):
    (root / '.venv' / 'bin' / 'python').unlink()
    assert environment.venv_version(root / '.venv') == ''
    assert environment.venv_version(root / 'absent') == ''


def test_environment_without_a_stamp_is_out_of_date(root):
    assert not environment.is_current(root, 'demo', '3.11')


def test_test_environment_serves_the_demo_but_not_the_reverse(root):
    environment.write_stamps(root, 'demo', '3.11')
    assert environment.is_current(root, 'demo', '3.11')
    assert not environment.is_current(root, 'test', '3.11')
    environment.write_stamps(root, 'test', '3.11')
    assert environment.is_current(root, 'demo', '3.11')
    assert environment.is_current(root, 'test', '3.11')


def test_the_two_environments_are_apart(root):
    environment.write_stamps(root, 'test', '3.11')
    assert not environment.is_current(root, 'upstream', '3.11')
    environment.write_stamps(root, 'upstream', '3.11')
    shutil.rmtree(root / '.venv')
    assert environment.is_current(root, 'upstream', '3.11')
    assert not environment.is_current(root, 'demo', '3.11')


def test_environment_of_another_python_is_out_of_date(root):
    environment.write_stamps(root, 'test', '3.11')
    assert not environment.is_current(root, 'demo', '3.12')


@pytest.mark.parametrize(
    'name, outdated',
    [
        ('setup.py', {'demo', 'test', 'upstream'}),
        ('requirements/constraints.txt', {'demo', 'test'}),
        ('requirements/demo.txt', {'demo', 'test'}),
        ('requirements/test.txt', {'test'}),
        ('requirements/upstream-constraints.txt', {'upstream'}),
        ('requirements/upstream.txt', {'upstream'}),
    ],
)
def test_changed_file_outdates_what_depends_on_it(root, name, outdated):
    for target in ('test', 'upstream'):
        environment.write_stamps(root, target, '3.11')
    (root / name).write_text('changed\n')
    for target in environment.TARGETS:
        current = environment.is_current(root, target, '3.11')
        assert current == (target not in outdated)


def test_last_lines_leave_out_what_hides_the_progress(tmp_path):
    log = tmp_path / 'log'
    log.write_text(
        'one\ntwo\n  Attempting uninstall: x\nWARNING: Location /y is ignored\nthree\n'
    )
    assert environment.last_lines(log, 2) == ['two', 'three']


def test_failed_command_reports_its_output_and_the_log(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, 'LOG', tmp_path / 'new' / 'log')
    command = [sys.executable, '-c', 'print("no such package"); raise SystemExit(1)']
    with pytest.raises(environment.CommandError) as error:
        environment.run(command)
    assert 'no such package' in str(error.value)
    assert str(environment.LOG) in str(error.value)


@pytest.mark.parametrize('arguments', [[], ['domo'], ['demo', 'test']])
def test_unknown_target_is_refused(arguments):
    command = [sys.executable, str(SCRIPT), *arguments]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2
    assert "use one of ('demo', 'test', 'upstream')" in result.stderr
