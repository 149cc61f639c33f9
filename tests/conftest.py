"""Fixtures and a mark that several test files use."""

import random
from contextlib import contextmanager
from functools import cache
from importlib.metadata import Distribution

import mmengine.config.utils
import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from mmengine.utils import ManagerMixin

pytest_plugins = ['helpers.tools']

# MMEngine reads all metafiles of a package, a third of a second, for each file of it that
# a config inherits.
mmengine.config.utils.load = cache(mmengine.config.utils.load)


def pytest_configure(config):
    mark = 'needs_mmcv_ops: imports models of mmseg or mmdet; skipped on mmcv-lite'
    config.addinivalue_line('markers', mark)
    # pytest-randomly shuffles the tests; what they draw is seeded here.
    config.option.randomly_reset_seed = False


def pytest_runtest_setup(item):
    """Only the mmcv that has no operators excuses a test that needs them."""
    if item.get_closest_marker('needs_mmcv_ops') is None:
        return
    if any(Distribution.discover(name='mmcv-lite')):
        pytest.skip('mmcv-lite lacks the operators that mmseg and mmdet import')


def singletons(cls=ManagerMixin):
    """The classes of mmengine whose instances are global: default scope, loggers, …"""
    for subclass in cls.__subclasses__():
        yield subclass
        yield from singletons(subclass)


@contextmanager
def isolated():
    """Seed every generator, and put mmengine's global instances back at the end."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    before = {cls: dict(cls._instance_dict) for cls in singletons()}
    yield
    for cls in singletons():
        cls._instance_dict.clear()
        cls._instance_dict.update(before.get(cls, {}))


@pytest.fixture(autouse=True)
def _isolated():
    with isolated():
        yield


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef):
    """Fixtures that several tests share do not depend on the test that comes first."""
    if fixturedef.scope == 'function':
        return (yield)
    with isolated():
        return (yield)


@pytest.fixture
def mmpretrain_scope():
    """Look unscoped names up in mmpretrain, as a config with its default scope does."""
    init_default_scope('mmpretrain')
