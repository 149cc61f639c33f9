"""FCN and Faster R-CNN with each backbone, trained and tested on scenes of digits."""

import json

import pytest
from helpers.rooms import needs
from helpers.tools import ROOT, run_tool, write_config
from mmengine.config import Config

pytestmark = pytest.mark.needs_mmcv_ops

IMAGES = 8
TESTED = 4
BATCH = 4


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    """Both folders of scenes, written by the converter a user runs."""
    folder = tmp_path_factory.mktemp('scenes')
    for layout in ('cityscapes', 'voc'):
        arguments = [folder / layout, '--layout', layout]
        run_tool('tools/dataset_converters/digits.py', *arguments)
    return folder


def loader(images, **dataset):
    return dict(batch_size=BATCH, dataset=dict(dataset, indices=images))


def segmentation(scenes, name):
    """Two epochs of a config of configs/segmentation on a few scenes."""
    root = f'{scenes}/cityscapes'
    steps = 2 * IMAGES // BATCH
    return dict(
        _base_=str(ROOT / f'configs/segmentation/{name}.py'),
        train_dataloader=loader(IMAGES, data_root=root),
        test_dataloader=loader(TESTED, data_root=root),
        train_cfg=dict(max_iters=steps, val_interval=steps),
        default_hooks=dict(checkpoint=dict(interval=steps), logger=dict(interval=1)),
        load_from=None,
    )


def detection(scenes, name):
    """Two epochs of a config of configs/detection on a few scenes."""
    base = ROOT / f'configs/detection/{name}.py'
    root = f'{scenes}/voc/'
    train = Config.fromfile(base).train_dataloader.dataset
    train.times = 1
    train.dataset.datasets = train.dataset.datasets[:1]
    train.dataset.datasets[0].update(data_root=root, indices=IMAGES)
    return dict(
        _base_=str(base),
        train_dataloader=dict(batch_size=BATCH, dataset=train.to_dict()),
        test_dataloader=loader(TESTED, data_root=root),
        train_cfg=dict(max_epochs=2, val_interval=2),
        default_hooks=dict(checkpoint=dict(interval=2), logger=dict(interval=1)),
        load_from=None,
    )


def train(folder, config):
    """Train; returns the log and what tools/test.py needs."""
    write_config(folder / 'config.py', **config)
    arguments = [folder / 'config.py', '--work-dir', folder / 'work', '--no-validate']
    log = run_tool('tools/train.py', *arguments).stderr
    checkpoint = (folder / 'work' / 'last_checkpoint').read_text()
    return log, [folder / 'config.py', checkpoint, '--work-dir', folder / 'work']


def test(folder, arguments, *options):
    """Test; returns results by the names of the points."""
    run_tool('tools/test.py', *arguments, *options)
    report = json.loads((folder / 'work' / 'operating_points.json').read_text())
    return {point['name']: point for point in report['points']}


test.__test__ = False  # it is none


def check_costs(results, metric, names):
    """Costs rise from point to point, in the order of the names, up to the whole cost."""
    assert list(results) == names
    costs = [point['cost_ratio'] for point in results.values()]
    assert costs == sorted(set(costs)) and costs[-1] == 1
    best = 100 if metric == 'mIoU' else 1
    assert all(0 <= point['metrics'][metric] <= best for point in results.values())


@pytest.mark.parametrize(
    ('make', 'network', 'metric'),
    [
        (segmentation, 'fcn_r18-d8{}_digits', 'mIoU'),
        (detection, 'faster-rcnn_r18_fpn{}_digits', 'pascal_voc/mAP'),
    ],
)
class TestBackbones:
    def test_plain_trunk(self, tmp_path, scenes, make, network, metric):
        config = make(scenes, network.format(''))
        config['model'] = dict(backbone=dict(type='mmdyn.ResNet'))
        _, arguments = train(tmp_path, config)
        check_costs(test(tmp_path, arguments), metric, ['dense'])

    @needs('ResNetMoD')
    def test_mixture_of_depths(self, tmp_path, scenes, make, network, metric):
        _, arguments = train(tmp_path, make(scenes, network.format('_mod')))
        check_costs(test(tmp_path, arguments), metric, ['dense'])

    @needs('SpatialResNet')
    def test_budgets(self, tmp_path, scenes, make, network, metric):
        config = make(scenes, network.format('_spatial'))
        budgets = Config.fromfile(config['_base_']).model.backbone.budgets
        names = [f'budget={budget:g}' for budget in budgets[:-1]] + ['dense']
        log, arguments = train(tmp_path, config)
        for name in ('loss_budget', 'loss_distillation'):
            assert f'{name}: ' in log
        sparse = test(tmp_path, arguments)
        assert list(sparse) == names and sparse['dense']['cost_ratio'] == 1
        assert all(sparse[name]['cost_ratio'] < 1 for name in names[:-1])
        # Masks are multiplied with, or what they leave out is not computed. The network
        # is hardly trained: that its features agree is tested in test_in_stock_models.
        execution = ['--cfg-options', 'model.backbone.execution=masked']
        masked = test(tmp_path, arguments, *execution)
        for name in names:
            scores = [each[name]['metrics'][metric] for each in (sparse, masked)]
            scale = 100 if metric == 'mIoU' else 1
            assert abs(scores[0] - scores[1]) <= 1e-3 * scale, name
            assert masked[name]['cost_ratio'] > 0.999

    @needs('CNMM', 'MultiExitEncoderDecoder')
    def test_mixture(self, tmp_path, scenes, make, network, metric):
        name = network.format('').replace('r18-d8', 'cnmm').replace('r18', 'cnmm')
        _, arguments = train(tmp_path, make(scenes, name))
        results = test(tmp_path, arguments)
        if make is segmentation:
            check_costs(results, metric, ['exit=1', 'exit=2', 'exit=3'])
        else:
            # A point that keeps too few for these mixing weights is left out.
            kept = [name for name in ('keep=16', 'keep=24', 'keep=32') if name in results]
            assert kept
            check_costs(results, metric, [*kept, 'dense'])


@needs('MultiExitEncoderDecoder')
def test_segmented_images_leave_where_thresholds_say(tmp_path, scenes):
    config = segmentation(scenes, 'fcn_r18-d8_multi-exit_digits')
    config['model'] = dict(policy=dict(thresholds=dict(at_once=1e-6, never=1.0)))
    _, arguments = train(tmp_path, config)
    results = test(tmp_path, arguments)
    macs = {name: point['macs_per_image'] for name, point in results.items()}
    exits = {name: macs[name] for name in ('exit=1', 'exit=2', 'exit=3')}
    assert list(exits.values()) == sorted(set(exits.values()))
    assert results['exit=3']['cost_ratio'] == 1
    assert macs['at_once'] == macs['exit=1']
    # Heads with 4 and 3 convolutions of 32 channels, one behind their concatenation
    # with the 32 and 64 channels they got, and the classifier, at an eighth of 96×192.
    heads = [
        12 * 24 * (9 * (width + (number - 1) * 32 + width + 32) * 32 + 32 * 19)
        for width, number in ((32, 4), (64, 3))
    ]
    assert macs['never'] == macs['exit=3'] + sum(heads)
    for name in ('mIoU', 'aAcc'):
        scores = [results[point]['metrics'][name] for point in ('at_once', 'exit=1')]
        assert scores[0] == scores[1]
