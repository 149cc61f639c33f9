import pytest
from helpers.paths import ROOT
from helpers.tools import TOY_CONFIG
from mmengine.config import Config

from mmdyn.engine.runner import load_config, merge_cfg_options, require_settings
from mmdyn.utils.command_line import add_runner_arguments, tool_parser

CONFIG = f'{ROOT}/{TOY_CONFIG}'


def loaded(*arguments, **defaults):
    parser = tool_parser('', 'config')
    add_runner_arguments(parser)
    return load_config(parser.parse_args([CONFIG, *arguments]), **defaults)


def test_options_become_values():
    cfg = Config(dict(model=dict(depth=20), hooks=[dict(a=1)]))
    options = ['model.depth=8', 'hooks.0.a=None', 'b=[1,(2.5,x)]', 'c=true', 'd=e=f']
    merge_cfg_options(cfg, options)
    assert cfg.to_dict() == dict(
        model=dict(depth=8), hooks=[dict(a=None)], b=[1, (2.5, 'x')], c=True, d='e=f'
    )
    merge_cfg_options(cfg, [])
    assert cfg.model.depth == 8


def test_work_dir():
    assert loaded().work_dir == 'work_dirs/toy_digits'
    assert loaded('--work-dir', 'here').work_dir == 'here'


def test_loaders_get_what_they_lack():
    options = ['val_dataloader.num_workers=2', 'val_dataloader.collate_fn.type=mine']
    options.append('test_dataloader.num_workers=0')
    cfg = loaded('--no-pin-memory', '--cfg-options', *options, persistent_workers=True)
    assert cfg.val_dataloader.collate_fn.type == 'mine'
    assert cfg.test_dataloader.collate_fn.type == 'default_collate'
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        assert cfg[name].pin_memory is False
        assert not (cfg[name].persistent_workers and cfg[name].num_workers == 0)


@pytest.mark.parametrize('workers', [0, 2])
def test_workers_persist_where_there_are_some(workers, tmp_path):
    loader = dict(num_workers=workers)
    (tmp_path / 'config.py').write_text(f'train_dataloader = {loader}')
    parser = tool_parser('', 'config')
    add_runner_arguments(parser)
    args = parser.parse_args([str(tmp_path / 'config.py')])
    cfg = load_config(args, persistent_workers=True)
    assert cfg.train_dataloader.get('persistent_workers', False) == (workers > 0)
    assert 'collate_fn' not in cfg.train_dataloader  # only mmpretrain's


def test_missing_settings_are_named():
    cfg = loaded('--cfg-options', 'val_evaluator=None')
    require_settings(cfg, 'this needs', 'val_dataloader')
    with pytest.raises(ValueError, match='this needs val_evaluator, none in /.*.py'):
        require_settings(cfg, 'this needs', 'val_dataloader', 'val_evaluator', 'none')
