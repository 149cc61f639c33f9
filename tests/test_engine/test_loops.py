"""The loops on a runner of MMEngine's with a model small enough to check by hand."""

import json

import numpy as np
import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import nn

from mmdyn import DynamicModule, OperatingPoint, OperatingPointReport
from mmdyn.engine.loops import OperatingPointValLoop
from mmdyn.engine.test_loop import OperatingPointTestLoop

SIZE = 10


class Numbers(torch.utils.data.Dataset):
    metainfo = dict()

    def __init__(self, size=SIZE):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        return dict(inputs=torch.full((4,), float(index)))


class Layers(DynamicModule, BaseModel):
    """One, two or three linear layers; predicts how many of them ran."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))

    @property
    def operating_points(self):
        return tuple(OperatingPoint(f'layers={i}', dict(n=i)) for i in (1, 2, 3))

    def forward(self, inputs, mode='predict'):
        n = self.operating_point.settings['n']
        for layer in self.layers[:n]:
            inputs = layer(inputs)
        if mode == 'loss':
            return dict(loss=inputs.square().mean())
        return [BaseDataElement(n=n, index=i) for i in range(len(inputs))]


class Count(BaseMetric):
    default_prefix = 'count'

    def process(self, data_batch, data_samples):
        self.results += [sample['n'] for sample in data_samples]

    def compute_metrics(self, results):
        return dict(layers=float(np.mean(results)), samples=len(results))


class Recorder:
    def __init__(self):
        self.tags = []

    def __call__(self, scalars, step=0, file_path=None):
        self.tags.append(scalars)


def make_runner(tmp_path, model=None, size=SIZE, **loop):
    loader = dict(
        batch_size=4,
        num_workers=0,
        dataset=Numbers(size),
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='default_collate'),
    )
    kind = loop.pop('kind', 'test')
    name = 'Test' if kind == 'test' else 'Val'
    return Runner(
        model=model or Layers(),
        work_dir=str(tmp_path),
        experiment_name=f'{tmp_path.name}_{id(loader)}',
        log_level='WARNING',
        **{
            f'{kind}_dataloader': loader,
            f'{kind}_evaluator': [Count()],
            f'{kind}_cfg': dict(type=f'mmdyn.OperatingPoint{name}Loop', **loop),
        },
    )


EXPECTED = {
    f'layers={n}/{key}': value
    for n in (1, 2, 3)
    for key, value in {
        'count/layers': n,
        'count/samples': SIZE,
        'macs_per_image': 16 * n,
    }.items()
}


def test_test_loop_evaluates_every_point_and_reports(tmp_path, capsys):
    runner = make_runner(tmp_path)
    assert isinstance(runner.test_loop, OperatingPointTestLoop)
    metrics = runner.test()
    assert metrics == {**EXPECTED, 'count/layers': 3, 'count/samples': SIZE}
    report = json.loads((tmp_path / 'operating_points.json').read_text())
    assert [p['name'] for p in report['points']] == ['layers=1', 'layers=2', 'layers=3']
    assert [p['macs_per_image'] for p in report['points']] == [16, 32, 48]
    assert [p['cost_ratio'] for p in report['points']] == pytest.approx([1 / 3, 2 / 3, 1])
    assert report['points'][0]['metrics'] == {'count/layers': 1, 'count/samples': SIZE}
    assert report['batch_size'] == 4
    assert all(p['latency_ms']['median'] > 0 for p in report['points'])
    assert 'layers=2' in capsys.readouterr().out
    assert (tmp_path / 'operating_points.png').exists()
    assert runner.model.operating_point.name == 'layers=3'


def test_metrics_reach_the_visualizer_by_point(tmp_path):
    runner = make_runner(tmp_path)
    recorder = runner.visualizer.add_scalars = Recorder()
    runner.test()
    sent = {key: value for tags in recorder.tags for key, value in tags.items()}
    assert sent['layers=2/count/layers'] == 2


def test_chosen_points_in_their_order(tmp_path):
    metrics = make_runner(tmp_path, points=['layers=2', 'layers=1']).test()
    assert metrics['count/layers'] == 1  # of the last one: the dense point did not run
    report = json.loads((tmp_path / 'operating_points.json').read_text())
    assert [p['name'] for p in report['points']] == ['layers=2', 'layers=1']
    # The dense cost is counted all the same.
    assert report['dense_macs_per_image'] == 48
    assert report['points'][0]['cost_ratio'] == pytest.approx(2 / 3)


def test_static_model_is_tested_once_as_dense(tmp_path):
    class Static(Layers):
        operating_points = (OperatingPoint('dense', dict(n=2)),)

    metrics = make_runner(tmp_path, Static()).test()
    assert metrics['dense/macs_per_image'] == 32 and metrics['count/layers'] == 2
    report = json.loads((tmp_path / 'operating_points.json').read_text())
    assert [(p['name'], p['cost_ratio']) for p in report['points']] == [('dense', 1.0)]


def test_val_loop_gives_hooks_the_metrics_of_all_points(tmp_path):
    runner = make_runner(tmp_path, kind='val')
    seen = []
    runner.call_hook = lambda name, **kw: seen.append((name, kw.get('metrics')))
    assert isinstance(runner.val_loop, OperatingPointValLoop)
    metrics = runner.val_loop.run()
    assert metrics == {**EXPECTED, 'count/layers': 3, 'count/samples': SIZE}
    assert next(iter(metrics)) == 'count/layers'  # what save_best='auto' takes
    names = [name for name, _ in seen]
    assert names[:2] == ['before_val', 'before_val_epoch']
    assert names[-2:] == ['after_val_epoch', 'after_val']
    assert names.count('after_val_iter') == 3 * 3
    assert dict(seen)['after_val_epoch'] == metrics
    assert not (tmp_path / 'operating_points.json').exists()


@pytest.mark.parametrize('kind', ['test', 'val'])
@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(points=['layers=4']), r"\['layers=4'\]; valid ones: \['layers=1', "),
        (dict(points=[]), 'points is empty; valid ones'),
        (dict(size=0), 'dataset.*empty'),
    ],
)
def test_refusals_before_any_work(tmp_path, kind, settings, message):
    runner = make_runner(tmp_path, kind=kind, **settings)
    with pytest.raises(ValueError, match=message):
        getattr(runner, f'{kind}_loop')


def test_unknown_metric_costs_no_results(tmp_path):
    runner = make_runner(tmp_path, metric='mIoU')
    warnings = []
    runner.logger.warning = warnings.append
    runner.test()
    assert warnings[0].startswith("unknown metric 'mIoU'; measured: ['count/layers', ")
    report = json.loads((tmp_path / 'operating_points.json').read_text())
    assert report['metric'] == 'count/layers' and len(report['points']) == 3


def test_metric_that_only_some_points_have(tmp_path, capsys):
    class Sometimes(Count):
        def compute_metrics(self, results):
            found = super().compute_metrics(results)
            return dict(map=found['layers']) if found['layers'] > 1 else {}

    runner = make_runner(tmp_path, metric='count/map')
    runner.test_evaluator.metrics = [Sometimes()]
    runner.test()
    rows = [line for line in capsys.readouterr().out.splitlines() if 'layers=' in line]
    assert [row.split('│')[2].strip() for row in rows[:3]] == ['–', '2.00', '3.00']
    report = OperatingPointReport.load(tmp_path / 'operating_points.json')
    assert report.pareto() == [False, True, True]


def test_timed_batches_come_from_all_over_the_dataset(tmp_path):
    timed = []

    class Recording(Layers):
        def test_step(self, data):
            timed.append(data['inputs'][0, 0].item())
            return super().test_step(data)

    make_runner(tmp_path, Recording(), size=80, points=['layers=1', 'layers=3']).test()
    # 20 batches twice; then every third at both points alternately, one to warm up.
    assert timed[:40] == [4.0 * i for i in range(20)] * 2
    every_third = [12.0 * i for i in range(7)]
    assert timed[40:58:2] == timed[41:58:2] == [0.0, *every_third, 0.0]


def test_time_is_taken_with_the_weights_that_were_evaluated(tmp_path):
    class Marking(Layers):
        averaged = False

        def test_step(self, data):
            assert self.averaged
            return super().test_step(data)

    class Average(Hook):
        """Swaps weights as EMAHook does."""

        def before_test_epoch(self, runner):
            runner.model.averaged = True

        def after_test_epoch(self, runner, metrics=None):
            runner.model.averaged = False

    runner = make_runner(tmp_path, Marking(), points=['layers=1'])
    runner.register_hook(Average())
    runner.test()


@pytest.mark.parametrize('kind', ['test', 'val'])
def test_losses_that_models_append_become_metrics(tmp_path, kind):
    class WithLoss(Layers):
        def forward(self, inputs, mode='predict'):
            outputs = super().forward(inputs, mode)
            return [*outputs, BaseDataElement(loss=dict(loss=torch.tensor(2.0)))]

    runner = make_runner(tmp_path, WithLoss(), kind=kind)
    metrics = getattr(runner, kind)()
    assert metrics[f'layers=1/{kind}_loss'] == 2 and metrics[f'{kind}_loss'] == 2
    assert metrics['layers=1/count/samples'] == SIZE
    assert metrics['layers=1/macs_per_image'] == 16


def test_model_with_nothing_to_count(tmp_path):
    class Nothing(Layers):
        operating_points = (OperatingPoint('dense', dict(n=0)),)

    make_runner(tmp_path, Nothing()).test()
    report = json.loads((tmp_path / 'operating_points.json').read_text())
    assert report['points'][0]['cost_ratio'] is None


def test_one_point_as_a_string(tmp_path):
    assert make_runner(tmp_path, points='layers=2').test()['count/layers'] == 2


def test_dense_is_another_name_of_the_dense_point(tmp_path):
    metrics = make_runner(tmp_path, points=['dense', 'layers=1']).test()
    assert metrics['layers=3/count/layers'] == 3 == metrics['count/layers']
    report = OperatingPointReport.load(tmp_path)
    assert [p.name for p in report.points] == ['layers=3', 'layers=1']
    assert report.dense_point == 'layers=3'


def test_each_point_is_entered_once_a_pass(tmp_path):
    entered = []

    class Recording(Layers):
        def activate(self, point):
            entered.append(point.name)
            super().activate(point)

    make_runner(tmp_path, Recording(), kind='val', points=['layers=1']).val()
    assert entered == ['layers=1', 'layers=3']  # and the former point again


def test_results_are_printed_even_if_they_cannot_be_written(tmp_path, capsys):
    (tmp_path / 'operating_points.json').mkdir()
    with pytest.raises(OSError, match='printed above could not be written to'):
        make_runner(tmp_path).test()
    assert 'layers=3' in capsys.readouterr().out


def test_active_point_comes_back_after_a_failure(tmp_path):
    runner = make_runner(tmp_path)
    runner.model.set_operating_point('layers=2')
    runner.test_evaluator.process = lambda **_: 1 / 0
    with pytest.raises(ZeroDivisionError):
        runner.test()
    assert runner.model.operating_point.name == 'layers=2'


class Shallow(Layers):
    """Its weights do not allow the refused points."""

    refused = ('layers=2',)

    def check_runnable(self, point):
        if point.name in self.refused:
            raise ValueError(f'no path to layer {point.settings["n"]}')


@pytest.mark.parametrize('kind', ['val', 'test'])
def test_points_that_the_weights_do_not_allow_are_left_out(tmp_path, kind):
    runner = make_runner(tmp_path, Shallow(), kind=kind)
    warned = []
    runner.logger.warning = lambda text, *_: warned.append(text)
    metrics = runner.test() if kind == 'test' else runner.val()
    assert {name.split('/')[0] for name in metrics} == {'layers=1', 'layers=3', 'count'}
    assert warned == ['layers=2 is left out: no path to layer 2']
    if kind == 'test':
        report = OperatingPointReport.load(tmp_path / 'operating_points.json')
        assert [p.name for p in report.points] == ['layers=1', 'layers=3']
        assert all(point.latency_ms['median'] > 0 for point in report.points)


def test_no_point_that_the_weights_allow(tmp_path):
    model = Shallow()
    model.refused = ('layers=1', 'layers=2')
    runner = make_runner(tmp_path, model, points=['layers=1', 'layers=2'])
    with pytest.raises(
        ValueError, match='layers=1 is left out: .*; layers=2 is left out'
    ):
        runner.test()
