import json

import pytest
from helpers.rooms import needs
from helpers.tools import run_tool

pytestmark = needs('ResNetMoD')

TOOL = 'tools/analysis_tools/benchmark.py'
MODEL = 'configs/mod/resnet18_mod_200e_cifar10.py'
BASELINE = 'mmpretrain::resnet/resnet18_8xb16_cifar10.py'
# Stock ResNet-18 for CIFAR and ResNet18-MoD, by the formulas of their layers.
PARAMETERS = (11_173_962, 4_948_352)


def mod_macs():
    """What replaces the second block of each stage: selector and two narrow 3×3."""
    saved = 0
    for channels, size in ((64, 32), (128, 16), (256, 8), (512, 4)):
        narrow = channels // 64
        saved += 2 * 9 * (channels**2 - narrow**2) * size**2 - 2 * channels**2 // 16
    return saved


@pytest.fixture(scope='module')
def found(tmp_path_factory):
    file = tmp_path_factory.mktemp('benchmark') / 'benchmark.json'
    settings = ['--batch-size', '2', '--shape', '32', '--rounds', '3', '--threads', '1']
    done = run_tool(
        TOOL, MODEL, '--baseline', BASELINE, *settings, '--channels-last', '--profile',
        '--json', file,
    )  # fmt: skip
    return done.stdout, json.loads(file.read_text())


def test_macs_and_parameters(found):
    _, numbers = found
    baseline, model = numbers['baseline'], numbers['model']
    assert baseline['macs_per_image'] - model['macs_per_image'] == mod_macs()
    assert (baseline['parameters'], model['parameters']) == PARAMETERS
    ratio = baseline['macs_per_image'] / model['macs_per_image']
    assert numbers['mac_ratio'] == ratio == pytest.approx(2.18, abs=0.02)


def test_spreads(found):
    _, numbers = found
    for spread in (
        numbers['speed_up'],
        numbers['baseline']['latency_ms'],
        numbers['model']['latency_ms'],
    ):
        assert 0 < spread['p10'] <= spread['median'] <= spread['p90']


def test_settings_are_kept_with_the_numbers(found):
    _, numbers = found
    assert numbers['settings'] == dict(
        batch_size=2, shape=[32, 32], dtype='fp32', channels_last=True, compile=False,
        point=None, masks='of the network', rounds=3,
    )  # fmt: skip
    assert numbers['machine']['threads'] == 1
    assert '--channels-last' in numbers['command'] and MODEL in numbers['command']


def test_what_is_printed(found):
    stdout, numbers = found
    assert '2×32×32, fp32, channels last' in stdout
    assert 'resnet18_8xb16_cifar10' in stdout and 'resnet18_mod_200e_cifar10' in stdout
    median, ratio = numbers['speed_up']['median'], numbers['mac_ratio']
    assert f'speed-up {median:.3f}' in stdout and f'would give {ratio:.3f}' in stdout
    assert 'aten::native_batch_norm' in stdout and 'all others' in stdout


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--rounds', '0'], '--rounds must be 1 or more, got 0'),
        (['--batch-size', '-1'], '--batch-size must be 1 or more, got -1'),
        (['--shape', '1', '2', '3'], '--shape takes one or two positive numbers'),
        (['--dtype', 'int8'], "invalid choice: 'int8'"),
        (['--device', 'tpu9'], '--device tpu9: '),
        (['--json', 'nowhere/at/all.json'], 'there is no such folder'),
    ],
)
def test_refusals(arguments, message):
    done = run_tool(TOOL, MODEL, '--baseline', BASELINE, *arguments, check=False)
    assert done.returncode == 2 and message in done.stderr


def test_masks_are_refused_for_a_network_without_any():
    arguments = ['--baseline', MODEL, '--point', 'dense', '--coherent-masks']
    done = run_tool(TOOL, MODEL, *arguments, '--shape', '32', check=False)
    assert done.returncode == 1
    assert f'--coherent-masks needs a spatial network: {MODEL}' in done.stderr


@pytest.mark.parametrize(
    ('baseline', 'message'),
    [
        ('configs/mod/none.py', 'there is no config configs/mod/none.py'),
        ('mmpretrain::resnet/none.py', '/.mim/configs/resnet/none.py'),
        ('mmnone::resnet/resnet18.py', "no package 'mmnone' is installed"),
    ],
)
def test_missing_configs_are_named(baseline, message):
    done = run_tool(TOOL, MODEL, '--baseline', baseline, check=False)
    assert done.returncode == 1 and message in done.stderr
    assert 'Traceback' not in done.stderr
