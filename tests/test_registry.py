"""What a user's project sees of mmdyn, in fresh interpreters."""

import subprocess
import sys
import textwrap

import pytest
from mmengine.registry import Registry

from mmdyn.registry import LazyRegistry


def run(code):
    return subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_scope_resolves_without_custom_imports():
    done = run(
        """
        import sys
        from mmengine.registry import LOOPS, MODELS, init_default_scope
        assert not any(name.startswith('mmdyn') for name in sys.modules)
        init_default_scope('mmpretrain')
        assert MODELS.build(dict(type='mmdyn.ResNetMoD', depth=18)).depth == 18
        assert LOOPS.get('mmdyn.OperatingPointTestLoop').__name__.startswith('Operating')
        """
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize('name', ['MultiExitClassifier', 'T2TViT'])
def test_missing_mmpretrain_is_named_when_it_is_needed(name):
    done = run(
        f"""
        import sys
        sys.modules['mmpretrain'] = None  # as if it were not installed
        import mmdyn
        from mmdyn.registry import MODELS
        MODELS.build(dict(type='mmdyn.ResNet', depth=18))
        MODELS.build(dict(type='mmdyn.{name}'))
        """
    )
    assert f'mmdyn.{name} needs mmpretrain, which cannot be imported' in done.stderr
    assert done.returncode == 1


@pytest.mark.needs_mmcv_ops
def test_segmentors_with_exits_need_no_mmpretrain():
    done = run(
        """
        import sys
        sys.modules['mmpretrain'] = None  # as if it were not installed
        from mmdyn.registry import MODELS
        MODELS.get('mmdyn.MultiExitEncoderDecoder')
        MODELS.build(dict(type='mmdyn.ConfidencePolicy', num_exits=2, thresholds=0.5))
        """
    )
    assert done.returncode == 0, done.stderr


def test_missing_mmseg_is_named_when_it_is_needed():
    done = run(
        """
        import sys
        sys.modules['mmseg'] = None  # as if it were not installed
        from mmdyn.registry import MODELS
        MODELS.get('mmdyn.MultiExitClassifier')
        MODELS.build(dict(type='mmdyn.MultiExitEncoderDecoder'))
        """
    )
    assert 'MultiExitEncoderDecoder needs mmseg, which cannot be imported' in done.stderr
    assert done.returncode == 1


def test_missing_operators_are_named_when_they_are_needed(tmp_path, monkeypatch):
    registry = LazyRegistry('model', parent=Registry('root', scope='root'))
    registry.offer('segmentor_without_operators', 'Segmentor', needs='mmseg')
    code = 'raise ModuleNotFoundError("No module named \'mmcv._ext\'", name="mmcv._ext")'
    (tmp_path / 'segmentor_without_operators.py').write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match='mmdyn.Segmentor needs mmseg.*mim install'):
        registry.build(dict(type='Segmentor'))


def test_hooks_of_other_tasks_need_no_mmpretrain():
    done = run(
        """
        import sys
        sys.modules['mmpretrain'] = None  # as if it were not installed
        from mmdyn.registry import HOOKS
        HOOKS.build(dict(type='mmdyn.BudgetScheduleHook'))
        HOOKS.build(dict(type='mmdyn.JEIScheduleHook', cost_weight=1.0))
        """
    )
    assert 'mmdyn.JEIScheduleHook needs mmpretrain, which cannot be' in done.stderr
    assert done.returncode == 1


def test_import_is_light():
    done = run(
        """
        import sys
        import mmdyn
        heavy = {'matplotlib', 'mmpretrain', 'mmseg', 'mmdet', 'mmcv'} & set(sys.modules)
        assert not heavy, heavy
        """
    )
    assert done.returncode == 0, done.stderr


def test_public_names_are_those_of_apis():
    import mmdyn
    from mmdyn import apis

    assert set(mmdyn.__all__) == {*apis.__all__, '__version__'}
    assert all(getattr(mmdyn, name) is getattr(apis, name) for name in apis.__all__)
    with pytest.raises(AttributeError, match="'mmdyn' has no attribute 'nothing'"):
        mmdyn.nothing  # noqa: B018


def test_import_needs_no_torch():
    done = run("import sys, mmdyn; assert not {'torch', 'mmengine'} & set(sys.modules)")
    assert done.returncode == 0, done.stderr
