"""Fixtures and a mark that several test files use."""

from importlib.metadata import Distribution

import pytest
import torch
from mmengine.registry import DefaultScope, init_default_scope

pytest_plugins = ['helpers.tools']


def pytest_configure(config):
    mark = 'needs_mmcv_ops: imports models of mmseg or mmdet; skipped on mmcv-lite'
    config.addinivalue_line('markers', mark)


def pytest_runtest_setup(item):
    """Only the mmcv that has no operators excuses a test that needs them."""
    if item.get_closest_marker('needs_mmcv_ops') is None:
        return
    if any(Distribution.discover(name='mmcv-lite')):
        pytest.skip('mmcv-lite lacks the operators that mmseg and mmdet import')


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def restored_scope():
    """Put the default scope, or that there is none, back after a test that changes it."""
    before = dict(DefaultScope._instance_dict)
    yield
    DefaultScope._instance_dict.clear()
    DefaultScope._instance_dict.update(before)


@pytest.fixture
def mmpretrain_scope(restored_scope):
    """Look unscoped names up in mmpretrain, as a config with its default scope does."""
    init_default_scope('mmpretrain')
