"""Fixtures that several test files use."""

import sys
from pathlib import Path

import pytest
import torch
from mmengine.registry import DefaultScope, init_default_scope

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / 'tests'))


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def mmpretrain_scope():
    """Look unscoped names up in mmpretrain, as a config with its default scope does."""
    before = DefaultScope.get_current_instance()
    init_default_scope('mmpretrain')
    yield
    if before is not None:
        init_default_scope(before.scope_name)
