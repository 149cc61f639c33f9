"""Long-tailed CIFAR, read from files in CIFAR's own form."""

import pickle
from collections import Counter

import numpy as np
import pytest
from helpers.tools import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.config import Config
from mmengine.registry import DATASETS
from mmengine.runner import Runner

from mmdyn.datasets.long_tail import CIFAR10LT, CIFAR100LT, exponential_profile

CONFIG = ROOT / 'configs' / '_base_' / 'datasets' / 'cifar100_lt_bs64.py'
LARGEST = 50
# Class k of 100 has 50 · 10^(−k/99) images.
SIZES = [int(LARGEST * 10 ** (-k / 99)) for k in range(99)] + [5]


def batch(numbers, labels, key):
    """A CIFAR batch; an image shows its number in its first four bytes."""
    data = np.zeros((len(numbers), 3072), dtype=np.uint8)
    data[:, :4] = np.asarray(numbers, dtype='>u4').view(np.uint8).reshape(-1, 4)
    return {'data': data, key: [int(label) for label in labels]}


def write(folder, **batches):
    folder.mkdir(parents=True)
    for name, content in batches.items():
        (folder / name).write_bytes(pickle.dumps(content))


@pytest.fixture(scope='module')
def cifar100(tmp_path_factory):
    """CIFAR-100 in small: 50 training images a class and 200 to test on."""
    root = tmp_path_factory.mktemp('cifar100')
    numbers = np.random.default_rng(0).permutation(100 * LARGEST)
    test = np.arange(200)
    write(
        root / 'cifar-100-python',
        train=batch(numbers, numbers % 100, 'fine_labels'),
        test=batch(test, test % 100, 'fine_labels'),
    )
    return root


@pytest.fixture(autouse=True)
def _no_checksums(monkeypatch):
    for dataset in (CIFAR10LT, CIFAR100LT):
        for name in ('train_list', 'test_list'):
            files = [[file, None] for file, _ in getattr(dataset, name)]
            monkeypatch.setattr(dataset, name, files)


def build(root, kind='CIFAR100LT', **settings):
    settings = dict(data_root=str(root), download=False, **settings)
    return DATASETS.build(dict(type=f'mmdyn.{kind}', **settings))


def number(info):
    """The number that an image shows: its first four bytes, down the red plane."""
    red = info['img'][..., 0].astype(np.uint8)
    return int.from_bytes(red.ravel()[:4].tobytes(), 'big')


def numbers(dataset):
    return [number(dataset.get_data_info(i)) for i in range(len(dataset))]


def test_sizes_of_the_benchmark():
    sizes = exponential_profile(500, 100, 100)
    assert sizes[:3] == [500, 477, 455] and sizes[-1] == 5
    assert sum(sizes) == 10_847
    sizes = exponential_profile(5000, 10, 100)
    assert sizes == [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]


def test_sizes_that_come_out_whole():
    # 512^(k/9) is 2^k, which floating point misses by a little.
    assert exponential_profile(512, 10, 512) == [512 >> k for k in range(10)]


@settings(derandomize=True)
@given(
    largest=st.integers(1, 10**4),
    classes=st.integers(2, 200),
    imbalance=st.floats(1, 1000),
)
def test_profile_against_its_definition(largest, classes, imbalance):
    sizes = exponential_profile(largest, classes, imbalance)
    assert len(sizes) == classes and sizes[0] == largest
    # The largest whole number n with (n / n_max)^(K − 1) · imbalance^k ≤ 1.
    for k, size in enumerate(sizes):
        power = np.log(imbalance) * k / (classes - 1)
        assert size == 0 or np.log(size / largest) + power <= 1e-8
        assert np.log((size + 1) / largest) + power > -1e-8


def test_each_class_has_its_share(cifar100):
    dataset = build(cifar100, imbalance=10)
    kept = numbers(dataset)
    assert len(set(kept)) == len(kept) == sum(SIZES)
    counts = Counter(info % 100 for info in kept)
    assert [counts[k] for k in range(100)] == SIZES
    labels = [dataset.get_data_info(i)['gt_label'] for i in range(len(dataset))]
    assert labels == [n % 100 for n in kept]


def test_default_imbalance_is_the_papers(cifar100):
    labels = [n % 100 for n in numbers(build(cifar100))]
    assert len(labels) == sum(exponential_profile(LARGEST, 100, 100))
    assert labels.count(0) == 50 and labels.count(49) == 5 and labels.count(99) == 0


def test_test_split_stays_balanced(cifar100):
    for imbalance in (10, 100):
        dataset = build(cifar100, split='test', imbalance=imbalance)
        assert numbers(dataset) == list(range(200))


def test_no_imbalance_keeps_every_image_in_the_order_of_the_file(cifar100):
    everything = np.random.default_rng(0).permutation(100 * LARGEST).tolist()
    assert numbers(build(cifar100, imbalance=1)) == everything
    kept = numbers(build(cifar100, imbalance=10))
    assert kept == [n for n in everything if n in set(kept)]


def test_seed_decides_alone(cifar100, tmp_path):
    kept = numbers(build(cifar100, imbalance=10))
    np.random.seed(7)
    assert numbers(build(cifar100, imbalance=10)) == kept
    other = numbers(build(cifar100, imbalance=10, seed=1))
    assert len(other) == len(kept) and set(other) != set(kept)
    # The same images in another order of the file.
    turned = np.arange(100 * LARGEST)
    write(
        tmp_path / 'cifar-100-python',
        train=batch(turned, turned % 100, 'fine_labels'),
        test=batch([], [], 'fine_labels'),
    )
    assert numbers(build(tmp_path, imbalance=10)) == sorted(kept)


def test_a_larger_imbalance_keeps_some_of_the_same(cifar100):
    most, some, few = (set(numbers(build(cifar100, imbalance=i))) for i in (2, 10, 50))
    assert few < some < most


def test_choice_within_a_class_is_even(cifar100):
    # Half of the 1,911 kept images are of the first half of their class, within about
    # four standard deviations of 0.9 %.
    kept = np.array(numbers(build(cifar100, imbalance=10)))
    assert abs((kept < 2500).mean() - 0.5) < 0.04


def test_cifar10(tmp_path):
    images = np.arange(400)
    parts = {
        f'data_batch_{i + 1}': batch(part, part % 10, 'labels')
        for i, part in enumerate(np.array_split(images, 5))
    }
    folder = tmp_path / 'cifar-10-batches-py'
    write(folder, **parts, test_batch=batch(images[:20], images[:20] % 10, 'labels'))
    dataset = build(tmp_path, 'CIFAR10LT', imbalance=8)
    counts = Counter(n % 10 for n in numbers(dataset))
    assert [counts[k] for k in range(10)] == [40, 31, 25, 20, 15, 12, 10, 7, 6, 5]
    assert len(build(tmp_path, 'CIFAR10LT', split='test')) == 20


@pytest.mark.parametrize('imbalance', [0, 0.01, -100, float('nan')])
@pytest.mark.parametrize('split', ['train', 'test'])
def test_refuses_less_than_balance(imbalance, split):
    with pytest.raises(ValueError, match=f'1 or more, got {imbalance}'):
        CIFAR100LT('nowhere', split, imbalance=imbalance, lazy_init=True)


def test_refuses_a_typo(cifar100):
    with pytest.raises(TypeError, match='imbalanced'):
        build(cifar100, imbalanced=10)


def test_config_builds_dataloaders(cifar100, mmpretrain_scope):
    cfg = Config.fromfile(CONFIG)
    train, val, test = (
        cfg[f'{name}_dataloader'].dataset for name in ('train', 'val', 'test')
    )
    assert (train.type, val.type, test.type) == (*['mmdyn.CIFAR100LT'] * 2, 'CIFAR100')
    assert (train.split, val.split, test.split) == ('train', 'train', 'test')
    # Together they are all there is, and no image is in both.
    assert train.indices - val.indices == sum(exponential_profile(500, 100, 100))
    kept = numbers(build(cifar100))
    seen = []
    held_out = len(kept) // 10
    for loader, indices in (
        ('train_dataloader', len(kept) - held_out),
        ('val_dataloader', -held_out),
    ):
        settings = cfg[loader]
        settings.dataset.update(data_root=str(cifar100), download=False, indices=indices)
        settings.update(num_workers=0, persistent_workers=False)
        loaded = Runner.build_dataloader(settings)
        seen += numbers(loaded.dataset)
        inputs = next(iter(loaded))['inputs']
        assert inputs[0].shape == (3, 32, 32)
    assert seen == kept
