import copy
import pickle
from dataclasses import FrozenInstanceError

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mmdyn import (
    DynamicModule,
    OperatingPoint,
    at_operating_point,
    dense_operating_point,
    operating_points,
    set_operating_point,
)
from mmdyn.evaluation.saved_points import load_operating_points, save_operating_points
from mmdyn.models.searchable import Searchable


class Scale(DynamicModule, nn.Module):
    """Multiplies by 1, 2 or 3, whichever its operating point says."""

    @property
    def operating_points(self):
        return tuple(OperatingPoint(f'by={i}', dict(factor=i)) for i in (1, 2, 3))

    def forward(self, x):
        return x * self.operating_point.settings['factor']


class Static(DynamicModule, nn.Identity):
    pass


def test_point_cannot_be_changed_and_survives_copies():
    settings = dict(exit=1)
    point = OperatingPoint('exit=1', settings)
    settings['exit'] = 2
    assert point.settings['exit'] == 1
    with pytest.raises(TypeError):
        point.settings['exit'] = 3
    with pytest.raises(FrozenInstanceError):
        point.name = 'other'
    for copied in (copy.deepcopy(point), pickle.loads(pickle.dumps(point))):
        assert copied == point and hash(copied) == hash(point)


def test_module_starts_at_its_dense_point_and_switches():
    model = nn.Sequential(nn.Identity(), Scale())
    x = torch.ones(1)
    assert dense_operating_point(model).name == 'by=3'
    assert model(x).item() == 3
    set_operating_point(model, 'by=2')
    assert model(x).item() == 2
    set_operating_point(model, operating_points(model)[0])
    assert model(x).item() == 1
    assert copy.deepcopy(model)(x).item() == 1


@pytest.mark.parametrize('wrap', [lambda m: m, nn.DataParallel, nn.Sequential])
def test_points_of_bare_and_wrapped_models(wrap):
    names = [p.name for p in operating_points(wrap(Scale()))]
    assert names == ['by=1', 'by=2', 'by=3']


def test_points_of_a_distributed_model(tmp_path):
    dist.init_process_group(
        'gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1
    )
    try:
        model = DistributedDataParallel(nn.Sequential(nn.Linear(1, 1), Scale()))
        assert [p.name for p in operating_points(model)] == ['by=1', 'by=2', 'by=3']
        with at_operating_point(model, 'by=1'):
            one = model(torch.ones(1, 1))
        torch.testing.assert_close(model(torch.ones(1, 1)), 3 * one)
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize('model', [nn.Linear(1, 1), Static(), nn.Sequential(Static())])
def test_model_with_nothing_to_switch_is_full(model):
    assert [p.name for p in operating_points(model)] == ['dense']
    assert dense_operating_point(model).name == 'dense'
    with at_operating_point(model, 'dense'):
        pass
    with pytest.raises(ValueError, match="unknown operating point 'by=1'.*'dense'"):
        set_operating_point(model, 'by=1')


def test_context_restores_also_after_an_exception():
    model = Scale()
    set_operating_point(model, 'by=2')
    with at_operating_point(model, 'by=1') as same:
        assert same is model and model.operating_point.name == 'by=1'
        with at_operating_point(model, 'by=3'):
            assert model.operating_point.name == 'by=3'
        assert model.operating_point.name == 'by=1'
    assert model.operating_point.name == 'by=2'
    with pytest.raises(RuntimeError), at_operating_point(model, 'by=1'):
        raise RuntimeError
    assert model.operating_point.name == 'by=2'


def test_unknown_name_lists_the_valid_ones_and_changes_nothing():
    model = Scale()
    expected = "unknown operating point 'by=9'; valid ones: 'by=1', 'by=2', 'by=3'"
    for refuse in (
        lambda: set_operating_point(model, 'by=9'),
        lambda: model.set_operating_point('by=9'),
        lambda: at_operating_point(model, 'by=9').__enter__(),
    ):
        with pytest.raises(ValueError) as error:
            refuse()
        assert str(error.value) == expected
    with pytest.raises(ValueError):
        model.set_operating_point(OperatingPoint('by=1', dict(factor=7)))
    assert model.operating_point.name == 'by=3'


def test_several_switchable_modules_combine():
    model = nn.Sequential(Scale(), Static(), Scale())
    points = operating_points(model)
    assert len(points) == 9
    assert points[1].name == 'by=1+by=2'
    products = []
    for point in points:
        with at_operating_point(model, point):
            products.append(model(torch.ones(1)).item())
    assert products == [1, 2, 3, 2, 4, 6, 3, 6, 9]
    assert dense_operating_point(model).name == 'by=3+by=3'


def test_auxiliary_losses_are_empty_by_default():
    assert Scale().auxiliary_losses() == {}


class Found(Searchable, nn.Identity):
    @property
    def operating_points(self):
        return OperatingPoint('whole', dict(share=1)), *self.found_points

    def check_settings(self, settings):
        if not 0 < settings['share'] <= 1:
            raise ValueError(f'share must lie in (0, 1], got {settings["share"]}')


class TestFoundPoints:
    def test_they_come_on_top_and_replace_those_found_before(self):
        model = nn.Sequential(Found())
        model[0].offer_points([OperatingPoint('half', dict(share=0.5))])
        assert [p.name for p in operating_points(model)] == ['whole', 'half']
        set_operating_point(model, 'half')
        again = [OperatingPoint('third', dict(share=1 / 3)), operating_points(model)[0]]
        model[0].offer_points(again)
        assert [p.name for p in operating_points(model)] == ['whole', 'third']
        assert model[0].operating_point.name == 'third'  # the dense one, by default

    def test_one_that_cannot_be_changes_nothing(self):
        model = Found()
        model.offer_points([OperatingPoint('half', dict(share=0.5))])
        set_operating_point(model, 'half')
        points = [OperatingPoint(str(s), dict(share=s)) for s in (0.25, 2)]
        with pytest.raises(ValueError, match=r'share must lie in \(0, 1\], got 2'):
            model.offer_points(points)
        assert [p.name for p in operating_points(model)] == ['whole', 'half']
        assert model.operating_point.name == 'half'

    def test_a_point_that_one_module_refuses_switches_none(self):
        class Picky(Found):
            def check_runnable(self, point):
                if point.name != 'whole':
                    raise ValueError('not with these weights')

        model = nn.Sequential(Found(), Picky())
        for module in model:
            module.offer_points([OperatingPoint('half', dict(share=0.5))])
        set_operating_point(model, 'whole+whole')
        for switch in (
            set_operating_point,
            lambda *a: at_operating_point(*a).__enter__(),
        ):
            with pytest.raises(ValueError, match='not with these weights'):
                switch(model, 'half+half')
            assert [m.operating_point.name for m in model] == ['whole', 'whole']

    def test_two_points_of_a_name_are_refused(self):
        points = [OperatingPoint('a', dict(share=s)) for s in (0.5, 0.6)]
        with pytest.raises(ValueError, match="another operating point 'a'"):
            Found().offer_points(points)

    def test_a_module_without_a_search_refuses(self, tmp_path):
        checkpoint = tmp_path / 'epoch_1.pth'
        torch.save({}, checkpoint)
        save_operating_points(checkpoint, [OperatingPoint('by=9', dict(factor=9))])
        with pytest.raises(ValueError, match='a Scale has no operating points to find'):
            load_operating_points(Scale(), checkpoint)
