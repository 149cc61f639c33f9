import json

import pytest
import torch
from helpers.budget_runner import Recorder, make_runner

from mmdyn import at_operating_point
from mmdyn.methods.spatial.schedule_hook import (
    BudgetScheduleHook,
    bounds_progress,
)
from mmdyn.methods.spatial.target_weights import target_weights


@pytest.mark.parametrize(
    ('done', 'expected'), [(0, 1.0), (0.165, 0.5), (0.11, 0.75), (0.33, 0.0), (1, 0.0)]
)
def test_bounds_relax_with_a_squared_cosine(done, expected):
    assert bounds_progress(done, 0.33) == pytest.approx(expected, abs=1e-9)
    assert bounds_progress(done, 0) == 0


def test_awareness_against_arithmetic():
    reached, targets = dict(a=70.0, b=72.0, c=73.0), dict(a=72.0, b=73.0, c=76.0)
    l2 = target_weights(reached, targets, 'l2')  # squares 4, 1, 9
    assert l2 == pytest.approx(dict(a=12 / 14, b=3 / 14, c=27 / 14))
    l1 = target_weights(reached, targets, 'l1')
    shares = [2 / 72, 1 / 73, 3 / 76]
    assert list(l1.values()) == pytest.approx([3 * s / sum(shares) for s in shares])
    assert target_weights(targets, targets, 'l2') == dict(a=1.0, b=1.0, c=1.0)
    assert target_weights(dict(targets, a=80.0), targets, 'l1')['a'] == 1.0


def test_a_run_follows_the_schedule(tmp_path):
    hook = dict(
        type='mmdyn.BudgetScheduleHook',
        temperature=((0, 5.0), (0.5, 2.5), (0.7, 1.0)),
        noise_until=0.8,
        bounds_until=0.4,
    )
    runner = make_runner(tmp_path, [hook], iters=10, interval=10)
    recorder = Recorder(runner)
    runner.train()
    points = ['budget=0.3', 'budget=0.5', 'budget=0.7'] * 3 + ['budget=0.3']
    assert [s['point'] for s in recorder.steps] == points
    assert [s['temperature'] for s in recorder.steps] == [5.0] * 5 + [2.5] * 2 + [1.0] * 3
    assert [s['noise'] for s in recorder.steps] == [True] * 8 + [False] * 2
    progress = [s['progress'] for s in recorder.steps]
    assert progress[0] == 1 and progress[2] == pytest.approx(0.5)
    assert progress[4:] == pytest.approx([0] * 6, abs=1e-12)


def scalars(tmp_path):
    (file,) = tmp_path.glob('*/vis_data/scalars.json')
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_losses_and_shares_are_logged(tmp_path):
    hook = dict(type='mmdyn.BudgetScheduleHook', weight=7.0, bounds_until=0)
    runner = make_runner(tmp_path, [hook], iters=6, interval=6)
    runner.train()
    lines = scalars(tmp_path)
    steps = [line for line in lines if 'loss_budget' in line]
    assert len(steps) == 6
    for number, line in enumerate(steps):
        assert line['loss'] == pytest.approx(line['loss_cls'] + line['loss_budget'])
        budget = (0.3, 0.5, 0.7)[number % 3]
        if number == 0:  # later lines are means over steps
            share = line[f'budget={budget}/executed']
            assert line['loss_budget'] == pytest.approx(
                7 * (share - budget) ** 2, rel=1e-3
            )
    (blocks,) = [line for line in lines if 'budget=0.5/executed/layer2.0' in line]
    found = [key for key in blocks if '/executed/' in key]
    assert len(found) == 9
    assert all(0 <= blocks[key] <= 1 for key in found)


def test_single_budget_and_dense_in_turn(tmp_path):
    runner = make_runner(
        tmp_path, [dict(type='mmdyn.BudgetScheduleHook')], iters=4, budgets=(0.4, 1.0)
    )
    recorder = Recorder(runner)
    runner.train()
    assert [s['point'] for s in recorder.steps] == ['budget=0.4', 'dense'] * 2


def test_training_reaches_its_budgets(tmp_path):
    """With nothing but the budget loss the executed shares arrive at the budgets."""
    hook = dict(type='mmdyn.BudgetScheduleHook', weight=100, noise_until=0)
    options = dict(optim_wrapper=dict(optimizer=dict(type='Adam', lr=0.02)))
    runner = make_runner(tmp_path, [hook], iters=180, interval=180, **options)
    runner.train()
    last = scalars(tmp_path)[-1]
    for budget in (0.3, 0.5, 0.7):
        assert last[f'budget={budget}/executed_share'] == pytest.approx(budget, abs=0.1)


def test_awareness_weighs_the_losses_and_survives_resuming(tmp_path):
    def runner_of(folder, iters, **options):
        hook = dict(
            type='mmdyn.BudgetScheduleHook', awareness='l2', noise_until=0, weight=1.0
        )
        return make_runner(folder, [hook], iters=iters, **options)

    whole = runner_of(tmp_path / 'whole', 9)
    target = 100 * score_at_dense(whole)
    whole.train()
    (hook,) = [h for h in whole.hooks if isinstance(h, BudgetScheduleHook)]
    last = scalars(tmp_path / 'whole')[-1]
    reached = {name: last[f'{name}/score/right'] for name in hook.aware.weights}
    expected = target_weights(reached, dict.fromkeys(reached, target), 'l2')
    assert hook.aware.weights == pytest.approx(expected, rel=1e-3)
    assert max(hook.aware.weights.values()) > 1.001

    # The schedule asks for shares of all steps, so the first part ends early.
    parts = runner_of(tmp_path / 'parts', 9)
    stop_at(parts, 6)
    with pytest.raises(KeyboardInterrupt):
        parts.train()
    resumed = runner_of(tmp_path / 'parts', 9, resume=True)
    recorder = Recorder(resumed)
    resumed.train()
    assert len(recorder.steps) == 3
    (again,) = [h for h in resumed.hooks if isinstance(h, BudgetScheduleHook)]
    assert again.aware.weights == pytest.approx(hook.aware.weights, rel=1e-6)
    for key, tensor in whole.model.state_dict().items():
        torch.testing.assert_close(resumed.model.state_dict()[key], tensor)


def stop_at(runner, step):
    """Stop training as Ctrl-C does, when this many steps are done."""
    run = runner.train_loop.run_iter

    def stopping(batch):
        if runner.iter == step:
            raise KeyboardInterrupt
        run(batch)

    runner.train_loop.run_iter = stopping


def score_at_dense(runner):
    batches = list(runner.val_dataloader)
    runner.model.eval()
    with torch.no_grad(), at_operating_point(runner.model, 'dense'):
        samples = [s for batch in batches for s in runner.model.val_step(batch)]
    return sum(s.right for s in samples) / len(samples)


def test_given_targets(tmp_path):
    targets = {'budget=0.3': 90.0, 'budget=0.5': 50.0, 'budget=0.7': 40.0}
    hook = dict(type='mmdyn.BudgetScheduleHook', awareness='l1', targets=targets)
    runner = make_runner(tmp_path, [hook], iters=3)
    runner.train()
    last = scalars(tmp_path)[-1]
    reached = {name: last[f'{name}/score/right'] for name in targets}
    (hook,) = [h for h in runner.hooks if isinstance(h, BudgetScheduleHook)]
    assert hook.aware.weights == pytest.approx(
        target_weights(reached, targets, 'l1'), rel=1e-3
    )


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(order='backwards'), "order must be one of .*got 'backwards'"),
        (dict(awareness='l3'), "awareness must be one of .*got 'l3'"),
        (dict(noise_until=1.2), 'noise_until must lie in 0…1, got 1.2'),
        (dict(bounds_until=-1), 'bounds_until must lie in 0…1, got -1'),
        (dict(temperature=((0.5, 1),)), 'rising from 0'),
        (dict(temperature=((0, 0.0),)), 'temperatures must be above 0'),
        (dict(temperature=()), 'temperature must be pairs'),
        (dict(weight=-1), 'weight must be 0 or more, got -1'),
        (dict(targets=70), "targets must be 'dense' or a dict, got 70"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        BudgetScheduleHook(**arguments)


def test_model_without_budgets(tmp_path):
    runner = make_runner(tmp_path, [dict(type='mmdyn.BudgetScheduleHook')])
    runner.model.backbone = torch.nn.Conv2d(3, 16, 3)
    with pytest.raises(
        ValueError, match=r'needs a model with budgets.*Classifier has no'
    ):
        runner.train()


def test_targets_have_to_name_the_points(tmp_path):
    hook = dict(
        type='mmdyn.BudgetScheduleHook', awareness='l2', targets={'budget=0.3': 1}
    )
    with pytest.raises(ValueError, match=r"given for \['budget=0.3', 'budget=0.5'"):
        make_runner(tmp_path, [hook]).train()


def test_awareness_needs_scores_of_every_point(tmp_path):
    hook = dict(type='mmdyn.BudgetScheduleHook', awareness='l2')
    with pytest.raises(ValueError, match='OperatingPointValLoop.*got ValLoop'):
        make_runner(tmp_path, [hook], val_cfg=dict()).train()


def test_unknown_metric(tmp_path):
    hook = dict(type='mmdyn.BudgetScheduleHook', awareness='l2', metric='mIoU')
    with pytest.raises(ValueError, match=r"metric must be one of .*score/right.*'mIoU'"):
        make_runner(tmp_path, [hook]).train()
