"""What a user's project sees of mmdyn, in fresh interpreters."""

import os
import subprocess
import sys
import textwrap

import pytest
from helpers.paths import ROOT
from mmengine.registry import Registry

from mmdyn.registry import LazyRegistry


def run(code):
    return subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=120,
        env={
            **os.environ,
            'PYTHONPATH': os.pathsep.join(map(str, (ROOT, ROOT / 'tests'))),
        },
    )


def test_scope_resolves_without_custom_imports():
    done = run(
        """
        import sys
        from mmengine.registry import LOOPS, MODELS, init_default_scope
        assert not any(name.startswith('mmdyn') for name in sys.modules)
        init_default_scope('mmpretrain')
        assert MODELS.build(dict(type='mmdyn.ResNet', depth=18)).depth == 18
        assert LOOPS.get('mmdyn.OperatingPointTestLoop').__name__.startswith('Operating')
        """
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.needs_mmcv_ops
@pytest.mark.parametrize('package', ['mmpretrain', 'mmseg'])
def test_a_missing_package_is_named_by_what_needs_it_and_disturbs_nothing_else(package):
    done = run(
        f"""
        import sys
        sys.modules[{package!r}] = None  # as if it were not installed
        from helpers.rooms import REGISTRIES, offers
        known = offers()
        for registry in REGISTRIES:
            for name in registry._offers:
                needed = known[name][1]
                try:
                    registry.get('mmdyn.' + name)
                except ImportError as error:
                    assert needed == {package!r}, (name, error)
                    expected = f'mmdyn.{{name}} needs {package}, which cannot be imported'
                    assert expected in str(error)
                else:
                    assert needed != {package!r}, name
        MODELS = REGISTRIES[0]
        MODELS.build(dict(type='mmdyn.ResNet', depth=18))
        """
    )
    assert done.returncode == 0, done.stderr


def test_missing_operators_are_named_when_they_are_needed(tmp_path, monkeypatch):
    registry = LazyRegistry('model', parent=Registry('root', scope='root'))
    registry.offer('segmentor_without_operators', 'Segmentor', needs='mmseg')
    code = 'raise ModuleNotFoundError("No module named \'mmcv._ext\'", name="mmcv._ext")'
    (tmp_path / 'segmentor_without_operators.py').write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match='mmdyn.Segmentor needs mmseg.*mim install'):
        registry.build(dict(type='Segmentor'))
