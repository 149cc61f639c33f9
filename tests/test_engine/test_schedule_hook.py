import itertools
import json
import math

import pytest
import torch
from helpers.budget_runner import make_runner
from helpers.rooms import needs
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from torch import nn

from mmdyn import DynamicModule, OperatingPoint
from mmdyn.engine.schedule_hook import OperatingPointScheduleHook, point_at

POINTS = [OperatingPoint(name) for name in ('low', 'middle', 'high')]


def names(order, steps, points=POINTS, seed=0):
    return [point_at(step, points, order, seed).name for step in range(steps)]


def test_round_robin():
    assert names('round_robin', 7) == ['low', 'middle', 'high'] * 2 + ['low']


def test_random_order_is_fair_and_repeatable():
    first = names('random', 3000)
    assert first == names('random', 3000)
    assert first != names('random', 3000, seed=1)
    for point in POINTS:  # within 3.5 deviations of a third
        assert abs(first.count(point.name) - 1000) < 3.5 * math.sqrt(3000 * 2 / 9)


def test_sandwich_order():
    assert names('sandwich', 9) == ['low', 'high', 'middle'] * 3
    assert names('sandwich', 6, POINTS[:2])[:2] == ['low', 'middle']
    assert names('sandwich', 3, POINTS[:1]) == ['low'] * 3
    four = [POINTS[0], OperatingPoint('upper'), *POINTS[1:]]
    got = names('sandwich', 900, four)
    assert (set(got[0::3]), set(got[1::3])) == ({'low'}, {'high'})
    assert got[2::3].count('upper') + got[2::3].count('middle') == 300
    assert abs(got[2::3].count('upper') - 150) < 3.5 * math.sqrt(300 / 4)


class Wide(DynamicModule, nn.Module):
    """Multiplies by the weight of its operating point, whose square is a loss."""

    def __init__(self, *names):
        super().__init__()
        self._points = tuple(OperatingPoint(name) for name in names)
        self.weights = nn.ParameterDict({name: torch.ones(()) for name in names})

    @property
    def operating_points(self):
        return self._points

    @property
    def weight(self):
        return self.weights[self.operating_point.name]

    def auxiliary_losses(self):
        return dict(loss_weight=self.weight**2)

    def forward_statistics(self):
        return dict(weight=float(self.weight.detach()))

    def forward(self, x):
        return x * self.weight


class Toy(BaseModel):
    """Its loss is the product of its weights; it keeps the points of its steps."""

    def __init__(self, *parts):
        super().__init__()
        self.parts = nn.Sequential(*parts)
        self.steps = []

    def forward(self, inputs, label=None, mode='tensor'):
        out = self.parts(inputs.new_ones(()))
        if mode == 'loss':
            active = [part.operating_point.name for part in self.parts]
            self.steps.append('+'.join(active))
            return dict(loss_toy=out)
        return [BaseDataElement(right=float(out)) for _ in inputs]


def trained(folder, *parts, iters=6, lr=0.1, **options):
    model = Toy(*parts)
    hook = dict(type='mmdyn.OperatingPointScheduleHook', **options)
    optimiser = dict(optimizer=dict(type='SGD', lr=lr))
    runner = make_runner(
        folder, [hook], iters=iters, model=model, optim_wrapper=optimiser
    )
    runner.train()
    return model, runner


def logged(folder):
    (file,) = folder.glob('*/vis_data/scalars.json')
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_points_losses_and_statistics_of_a_training(tmp_path):
    """SGD with rate r takes w to w - r (1 + 2 · 3 w) at its own point's steps alone."""
    model, _ = trained(tmp_path, Wide('narrow', 'wide'), iters=3, weight=3.0)
    assert model.steps == ['narrow', 'wide', 'narrow']
    once = 1 - 0.1 * (1 + 6)
    twice = once - 0.1 * (1 + 6 * once)
    weights = model.parts[0].weights
    assert [weights[n].item() for n in ('narrow', 'wide')] == pytest.approx([twice, once])
    first = next(line for line in logged(tmp_path) if 'loss_toy' in line)
    assert first['loss_weight'] == pytest.approx(3)
    assert first['loss'] == pytest.approx(4)
    # Of the weight after the step.
    assert first['narrow/weight'] == pytest.approx(once, abs=1e-4)


def test_every_combination_of_two_modules_is_trained(tmp_path):
    model, _ = trained(tmp_path, Wide('a', 'b'), Wide('x', 'y', 'z'), lr=0.01)
    assert model.steps == ['+'.join(pair) for pair in itertools.product('ab', 'xyz')]


def test_losses_of_two_modules_are_added(tmp_path):
    trained(tmp_path, Wide('a', 'b'), Wide('x', 'y'), iters=3, lr=0)
    first = next(line for line in logged(tmp_path) if 'loss_toy' in line)
    assert first['loss_weight'] == pytest.approx(2)


def test_chosen_points(tmp_path):
    model, _ = trained(tmp_path, Wide(*'abc'), iters=3, points=['c', 'a'])
    assert model.steps == ['c', 'a', 'c']


class Reference(Wide):
    @property
    def untrained_operating_points(self):
        return self.operating_points[-1:]


def test_points_kept_as_a_reference_are_not_trained(tmp_path):
    model, _ = trained(tmp_path, Reference('a', 'b', 'kept'), iters=4)
    assert model.steps == ['a', 'b'] * 2


@pytest.mark.parametrize('order', ['random', 'sandwich'])
def test_resuming_in_the_middle_changes_nothing(tmp_path, order):
    def run(folder, stop=None, **options):
        hook = dict(type='mmdyn.OperatingPointScheduleHook', order=order)
        model = Toy(Wide(*'abcd'))
        options = dict(randomness=dict(seed=5), **options)
        runner = make_runner(folder, [hook], iters=12, model=model, **options)
        if stop is not None:
            runner.train_loop.run_iter = _until(stop, runner)
            with pytest.raises(KeyboardInterrupt):
                runner.train()
        else:
            runner.train()
        return model

    whole = run(tmp_path / 'whole')
    run(tmp_path / 'parts', stop=6)
    resumed = run(tmp_path / 'parts', resume=True)
    assert resumed.steps == whole.steps[6:]
    for key, tensor in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[key], tensor)


def _until(step, runner):
    """Runs iterations up to a step, then stops as Ctrl-C does."""
    run = runner.train_loop.run_iter

    def run_iter(batch):
        if runner.iter == step:
            raise KeyboardInterrupt
        run(batch)

    return run_iter


@needs('SpatialResNet')
def test_budgets_are_points_too(tmp_path):
    """The general hook trains budgets; the mask schedule stays as it was built."""
    hook = dict(type='mmdyn.OperatingPointScheduleHook', weight=7.0)
    make_runner(tmp_path, [hook], iters=3, interval=3).train()
    lines = [line for line in logged(tmp_path) if 'loss_budget' in line]
    share = lines[0]['budget=0.3/executed_share']
    expected = 7 * (share - 0.3) ** 2
    assert lines[0]['loss_budget'] == pytest.approx(expected, rel=1e-3)


def test_a_model_without_a_choice(tmp_path):
    message = "OperatingPointScheduleHook needs .* several .*Toy has only 'dense'"
    with pytest.raises(ValueError, match=message):
        trained(tmp_path, Wide('alone'))


def test_an_unknown_point(tmp_path):
    with pytest.raises(ValueError, match=r"points \['c'\]; valid ones: \['a', 'b'\]"):
        trained(tmp_path, Wide(*'ab'), points=['c'])


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(order='backwards'), "order must be one of .*got 'backwards'"),
        (dict(points='a'), "points must be a list of names, got 'a'"),
        (dict(points=[]), 'points must be a list of names'),
        (dict(weight=-1), 'weight must be 0 or more, got -1'),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        OperatingPointScheduleHook(**arguments)
