"""Small data and runs through the command line."""

import os
import sys

import pytest
from helpers.tool_process import ROOT, run_script

ENVIRONMENT = {**os.environ, 'PYTHONPATH': f'{ROOT}{os.pathsep}{ROOT / "tests"}'}
TOY_CONFIG = 'tests/helpers/toy_digits.py'
CONFIG = 'configs/multi_exit/resnet20_multi-exit_15e_digits.py'


@pytest.fixture(scope='session')
def digits(tmp_path_factory):
    """The digits, written by the converter a user runs."""
    folder = tmp_path_factory.mktemp('digits')
    run_tool('tools/dataset_converters/digits.py', str(folder))
    return folder


def command(script, *arguments):
    return [sys.executable, '-W', 'ignore', str(ROOT / script), *map(str, arguments)]


def run_tool(script, *arguments, check=True):
    """Run a tool as a user does; returns the finished process with its output."""
    done = run_script(script, [*map(str, arguments)])
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def write_config(path, **settings):
    path.write_text('\n'.join(f'{key} = {value!r}' for key, value in settings.items()))


def small(digits, epochs=1, images=64):
    """Options that make the digits config small enough for a test, and repeatable.

    Without the random crop two runs see the same images in the same order.
    """
    loaders = {
        'train_dataloader.dataset.data_root': digits,
        'train_dataloader.dataset.indices': images,
        'train_dataloader.batch_size': 16,
        'train_dataloader.dataset.pipeline.2.padding': 0,
        'val_dataloader.dataset.data_root': digits,
        'val_dataloader.dataset.data_prefix': 'val',
        'val_dataloader.dataset.indices': 40,
        'test_dataloader.dataset.data_root': digits,
        'test_dataloader.dataset.indices': 40,
        'model.backbone.depth': 8,
        'train_cfg.max_epochs': epochs,
        'train_cfg.val_interval': epochs,
        'param_scheduler.total_steps': epochs * images // 16,
        'default_hooks.logger.interval': 1,
    }
    return ['--cfg-options', *(f'{key}={value}' for key, value in loaders.items())]


@pytest.fixture(scope='session')
def trained(digits, tmp_path_factory):
    """Work directory of a small training; its checkpoint is epoch_1.pth."""
    folder = tmp_path_factory.mktemp('trained')
    run_tool('tools/train.py', CONFIG, '--work-dir', folder, *small(digits))
    return folder


@pytest.fixture(scope='session')
def trained_toy(digits, tmp_path_factory):
    """The same of the toy that belongs to no method."""
    folder = tmp_path_factory.mktemp('trained_toy')
    run_tool('tools/train.py', TOY_CONFIG, '--work-dir', folder, *small(digits))
    return folder
