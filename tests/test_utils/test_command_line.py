import argparse

import pytest

from mmdyn.utils import command_line


def parser(*adders):
    made = command_line.tool_parser('Does something.\n\nexample: tool CONFIG', 'config')
    for add in adders:
        add(made)
    return made


def refusal(made, arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        made.parse_args(arguments)
    assert caught.value.code == 2
    return capsys.readouterr().err


def test_help_keeps_the_lines_of_the_docstring():
    assert 'Does something.\n\nexample: tool CONFIG' in parser().format_help()


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ('depth', "argument --cfg-options: expected KEY=VALUE, got 'depth'"),
        ('=3', "expected KEY=VALUE, got '=3'"),
        ('exits=[1,2', "brackets do not match in 'exits=[1,2'"),
    ],
)
def test_malformed_options_are_refused_at_once(option, message, capsys):
    made = parser(command_line.add_cfg_options)
    assert message in refusal(made, ['config.py', '--cfg-options', option], capsys)


def test_options_add_up():
    made = parser(command_line.add_runner_arguments)
    once = ['config.py', '--cfg-options', 'a.b=1', 'c=x=y']
    assert made.parse_args(once).cfg_options == ['a.b=1', 'c=x=y']
    twice = made.parse_args([*once, '--cfg-options', 'd=(1,2)'])
    assert twice.cfg_options == ['a.b=1', 'c=x=y', 'd=(1,2)']
    assert made.parse_args(['config.py']).cfg_options == []


def test_shape():
    made = parser(command_line.add_shape)
    assert command_line.checked_shape(made, [32]) == [32, 32]
    assert command_line.checked_shape(made, [32, 64]) == [32, 64]
    for shape in ([0], [1, 2, 3]):
        with pytest.raises(SystemExit):
            command_line.checked_shape(made, shape)


def test_numbers_below_the_least_are_refused(capsys):
    args = argparse.Namespace(batch_size=0, threads=None, rounds=1)
    command_line.check_at_least(parser(), args, rounds=1, threads=1)
    with pytest.raises(SystemExit):
        command_line.check_at_least(parser(), args, rounds=1, batch_size=1)
    assert '--batch-size must be 1 or more, got 0' in capsys.readouterr().err


def test_files_and_folders_that_do_not_exist_are_refused(tmp_path, capsys):
    (tmp_path / 'there').touch()
    command_line.check_files(parser(), [str(tmp_path / 'there')])
    command_line.check_folder_of(parser(), '--out', str(tmp_path / 'new.png'))
    with pytest.raises(SystemExit):
        command_line.check_files(parser(), ['nowhere.png'])
    with pytest.raises(SystemExit):
        command_line.check_folder_of(parser(), '--out', 'nowhere/new.png')
    shown = capsys.readouterr().err
    assert 'there is no file nowhere.png' in shown
    assert '--out nowhere/new.png: there is no such folder' in shown


def test_only_the_named_errors_become_messages():
    with pytest.raises(SystemExit, match='bad value'), command_line.exit_on(ValueError):
        raise ValueError('bad value')
    with pytest.raises(KeyError), command_line.exit_on(ValueError):
        raise KeyError('name')
