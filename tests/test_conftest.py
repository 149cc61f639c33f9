"""What the mark of conftest.py does to a test whose operators are missing."""

from importlib.metadata import Distribution
from pathlib import Path

import pytest

pytest_plugins = ['pytester']
CONFTEST = Path(__file__).with_name('conftest.py').read_text()
TESTS = """
import pytest

@pytest.mark.needs_mmcv_ops
def test_detector():
    raise ModuleNotFoundError("No module named 'mmcv._ext'")

def test_classifier():
    pass
"""


@pytest.fixture
def project(pytester):
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(TESTS)
    return pytester


@pytest.fixture
def whole_mmcv(monkeypatch):
    """mmcv-lite is not found, installed or not."""
    discover = Distribution.discover

    def without_lite(**query):
        return [] if query.get('name') == 'mmcv-lite' else discover(**query)

    monkeypatch.setattr(Distribution, 'discover', without_lite)


def test_missing_operators_of_a_whole_mmcv_fail(project, whole_mmcv):
    project.runpytest('--strict-markers').assert_outcomes(passed=1, failed=1)


def test_missing_operators_of_mmcv_lite_are_a_stated_reason(project):
    (project.mkdir('mmcv_lite-2.1.0.dist-info') / 'METADATA').touch()
    project.syspathinsert()
    result = project.runpytest('--strict-markers', '-rs')
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines('SKIPPED*mmcv-lite lacks the operators*')
