"""Spatially adaptive networks through the command line."""

import json

import matplotlib.image
import pytest
import torch
from helpers.tools import ROOT, run_tool, small
from mmengine.config import Config
from torch import nn

from mmdyn.engine.build import build_model
from mmdyn.methods.spatial.resnet import SpatialResNet

CONFIG = 'configs/spatial/resnet20_spatial_15e_digits.py'
BENCHMARK = 'configs/spatial/resnet18_spatial_100e_in1k.py'


@pytest.fixture(scope='module')
def trained_spatial(digits, tmp_path_factory):
    """Work directory of a short training; its checkpoint is epoch_2.pth."""
    folder = tmp_path_factory.mktemp('spatial')
    done = run_tool('tools/train.py', CONFIG, '--work-dir', folder, *small(digits, 2))
    return folder, done.stderr


def test_training_logs_budgets_and_shares(trained_spatial):
    _, log = trained_spatial
    for expected in (
        'loss_budget:',
        'budget=0.3/executed:',
        'dense/executed: 1.0000',
        'Executed at budget=0.5: layer1.0 ',
        'budget=0.7/accuracy/top1:',
        'budget=0.7/executed_share:',
    ):
        assert expected in log, expected


def test_report_has_every_trained_point(trained_spatial, digits, tmp_path):
    folder, _ = trained_spatial
    options = small(digits, 2)
    arguments = (CONFIG, folder / 'epoch_2.pth', '--work-dir', tmp_path, *options)
    run_tool('tools/test.py', *arguments)
    report = json.loads((tmp_path / 'operating_points.json').read_text())
    points = {point['name']: point for point in report['points']}
    assert list(points) == ['budget=0.3', 'budget=0.5', 'budget=0.7', 'dense']
    assert report['untrained_points'] == []
    dense = points['dense']
    assert dense['metrics']['executed_share'] == 1
    # ResNet-8 on 32×32: stages of 16, 32 and 64 channels, one block each.
    conv = 9 * 16 * 16 * 32 * 32
    branches = 2 * conv + 2 * (conv // 2 + conv)
    stem, skips, head = 9 * 16 * 32 * 32, 2 * 16 * 32 * 16 * 16, 640
    assert dense['macs_per_image'] == branches + stem + skips + head
    # Mask units: ten columns at stride 1, nine and the pooled layer at stride 2.
    units = 10 * 16 * 32 * 32 + 9 * 16 * 16 * 16 + 16 + 9 * 32 * 8 * 8 + 32
    for point in report['points'][:3]:
        share = point['metrics']['executed_share']
        expected = share * branches + stem + skips + head + units
        assert point['macs_per_image'] == pytest.approx(expected, rel=1e-4)
        assert point['latency_ms']['median'] > 0


def test_report_leaves_out_the_untrained_point(trained_spatial, digits, tmp_path):
    folder, _ = trained_spatial
    options = [*small(digits, 2), 'model.backbone.budgets=(0.3,0.5,0.7)']
    arguments = (CONFIG, folder / 'epoch_2.pth', '--work-dir', tmp_path, *options)
    done = run_tool('tools/test.py', *arguments)
    report = json.loads((tmp_path / 'operating_points.json').read_text())
    names = [point['name'] for point in report['points']]
    assert names == ['budget=0.3', 'budget=0.5', 'budget=0.7']
    assert report['untrained_points'] == ['dense']
    assert report['dense_macs_per_image'] > 0
    shown = ' '.join(done.stdout.split())
    assert 'Not trained, reported for their cost alone: dense.' in shown


def ponder(folder, digits, tmp_path, point, image=None):
    image = image or next(digits.glob('val/*/*.png'))
    out = tmp_path / 'maps.png'
    arguments = ('--img', image, '--point', point, '--out', out)
    config = tmp_path / 'config.py'
    config.write_text(
        f"_base_ = '{ROOT}/{CONFIG}'\nmodel = dict(backbone=dict(depth=8))\n"
    )
    tool = 'tools/visualization/ponder_maps.py'
    return run_tool(tool, config, folder / 'epoch_2.pth', *arguments, check=False), out


def test_ponder_maps_are_drawn(trained_spatial, digits, tmp_path):
    done, out = ponder(trained_spatial[0], digits, tmp_path, 'budget=0.5')
    assert done.returncode == 0, done.stderr
    assert 'of the MACs of the branches executed' in done.stdout
    height, width = matplotlib.image.imread(out).shape[:2]
    assert height > 300 and width > 300


def test_ponder_maps_of_a_dataset_of_arrays(digits, tmp_path):
    """mmpretrain's CIFAR10 gives arrays: its pipeline loads nothing."""
    config = 'configs/spatial/resnet8_spatial_200e_cifar10.py'
    backbone = dict(Config.fromfile(ROOT / config).model.backbone)
    backbone.pop('type')
    model = nn.ModuleDict(dict(backbone=SpatialResNet(**backbone), head=nn.Module()))
    model.head.fc = nn.Linear(64, 10)
    torch.save(model.state_dict(), tmp_path / 'weights.pth')
    run_tool(
        'tools/visualization/ponder_maps.py',
        *(config, tmp_path / 'weights.pth', '--img', next(digits.glob('val/*/*.png'))),
        *('--point', 'budget=0.5', '--out', tmp_path / 'maps.png'),
    )
    assert (tmp_path / 'maps.png').is_file()


def test_models_of_tools_preprocess_as_a_runner_has_them_do(mmpretrain_scope):
    """Masks depend on it: without the mean and deviation they would mean nothing."""
    cfg = Config.fromfile(ROOT / CONFIG)
    assert 'data_preprocessor' not in cfg.model
    preprocessor = build_model(cfg).data_preprocessor
    assert preprocessor.mean.flatten().tolist() == cfg.data_preprocessor.mean == [127.5]


def test_ponder_maps_refuse(trained_spatial, digits, tmp_path):
    folder, _ = trained_spatial
    done, _ = ponder(folder, digits, tmp_path, 'budget=0.4')
    assert done.returncode == 1
    assert "unknown operating point 'budget=0.4'" in done.stderr
    done, _ = ponder(folder, digits, tmp_path, 'dense')
    assert done.returncode == 1 and 'has no masks at the point dense' in done.stderr
    done, _ = ponder(folder, digits, tmp_path, 'budget=0.5', image='none.png')
    assert done.returncode == 2 and 'there is no file none.png' in done.stderr


def test_benchmark_of_coherent_masks(tmp_path):
    file = tmp_path / 'times.json'
    arguments = ['--baseline', 'mmpretrain::resnet/resnet18_8xb32_in1k.py']
    arguments += ['--batch-size', '1', '--shape', '64', '--rounds', '2', '--json', file]
    arguments += ['--point', 'budget=0.3', '--coherent-masks']
    done = run_tool('tools/analysis_tools/benchmark.py', BENCHMARK, *arguments)
    assert 'at budget=0.3, masks: coherent' in done.stdout
    found = json.loads(file.read_text())
    assert found['settings']['point'] == 'budget=0.3'
    # Dense execution may be the quicker one here, so the MACs are above the budget's.
    assert 1 / 1.02 < found['mac_ratio'] < 1 / 0.3


def test_benchmark_refuses_masks_without_a_budget():
    arguments = ['--baseline', BENCHMARK, '--coherent-masks']
    tool = 'tools/analysis_tools/benchmark.py'
    done = run_tool(tool, BENCHMARK, *arguments, check=False)
    assert done.returncode == 2 and 'needs --point budget=' in done.stderr
    arguments += ['--point', 'budget=0.31']
    done = run_tool(tool, BENCHMARK, *arguments, check=False)
    assert done.returncode == 1 and "unknown operating point 'budget=0.31'" in done.stderr
