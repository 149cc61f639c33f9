"""The converter of SVHN on files of its form, with 60 images."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from helpers.tools import ROOT, run_tool
from mmengine.config import Config
from mmengine.registry import DATASETS
from PIL import Image
from scipy.io import savemat

CONVERTER = 'tools/dataset_converters/svhn.py'
CONFIG = ROOT / 'configs' / '_base_' / 'datasets' / 'svhn.py'
# 5 % of the 60 images are 3.
SPLITS = {'train': range(42), 'val': range(42, 45), 'test': range(15)}


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    """A folder of both files, and their images and labels as they were drawn."""
    folder = tmp_path_factory.mktemp('mat')
    rng = np.random.default_rng(0)
    drawn = {}
    for name, number in (('train', 45), ('test', 15)):
        images = rng.integers(0, 256, (number, 32, 32, 3), dtype=np.uint8)
        digits = np.arange(number) * 7 % 10
        labels = np.where(digits == 0, 10, digits).astype(np.uint8)[:, None]
        content = {'X': images.transpose(1, 2, 3, 0), 'y': labels}
        savemat(folder / f'{name}_32x32.mat', content, do_compression=True)
        drawn[name] = images, digits
    return folder, drawn


@pytest.fixture(scope='module')
def written(source, tmp_path_factory):
    """The folder the tool wrote, and what it printed."""
    out = tmp_path_factory.mktemp('out') / 'svhn'
    done = run_tool(CONVERTER, out, '--mat-dir', source[0])
    return out, done.stdout


def test_every_image_is_written_once_pixel_by_pixel(source, written):
    out, printed = written
    seen = {name: set() for name in SPLITS}
    for path in out.glob('*/*/*.png'):
        split, label, number = path.parts[-3], int(path.parts[-2]), int(path.stem)
        assert len(path.stem) == 5
        images, digits = source[1]['test' if split == 'test' else 'train']
        assert label == digits[number]
        assert np.array_equal(np.asarray(Image.open(path)), images[number])
        seen[split].add(number)
    assert seen == {name: set(numbers) for name, numbers in SPLITS.items()}
    assert printed.strip() == f'{out}: 42 training, 3 validation and 15 test images'


def test_mmpretrain_reads_digits_as_labels(source, written, mmpretrain_scope):
    cfg = Config.fromfile(CONFIG)
    for split, numbers in SPLITS.items():
        settings = cfg[f'{split}_dataloader'].dataset
        # The config's folders, below its root.
        settings.data_root = str(written[0])
        dataset = DATASETS.build(settings)
        # Every split has a folder for every digit, so labels are digits in all of them.
        assert list(dataset.CLASSES) == list('0123456789')
        images, digits = source[1]['test' if split == 'test' else 'train']
        assert len(dataset) == len(numbers)
        for sample in map(dataset.get_data_info, range(len(dataset))):
            assert sample['gt_label'] == digits[int(Path(sample['img_path']).stem)]
        if split != 'train':
            sample = dataset[0]
            number = int(Path(sample['data_samples'].img_path).stem)
            # OpenCV's channels, which the config's preprocessor turns: to_rgb=True.
            expected = images[number].transpose(2, 0, 1)[::-1]
            assert np.array_equal(sample['inputs'].numpy(), expected)
    assert cfg.data_preprocessor.to_rgb and cfg.train_dataloader.batch_size == 256


def test_sizes_of_the_benchmark():
    split = runpy.run_path(str(ROOT / CONVERTER))['split']
    sizes = {name: len(numbers) for name, numbers in split(73_257, 26_032).items()}
    assert sizes == dict(train=68_293, val=4_964, test=26_032)


def test_missing_files_are_named(source, tmp_path):
    done = run_tool(CONVERTER, tmp_path, check=False)
    assert done.returncode == 1 and not list(tmp_path.iterdir())
    (line,) = done.stderr.splitlines()
    assert f'train_32x32.mat and test_32x32.mat not found in {tmp_path}' in line
    assert 'http://ufldl.stanford.edu/housenumbers/' in line
    content = (source[0] / 'train_32x32.mat').read_bytes()
    (tmp_path / 'train_32x32.mat').write_bytes(content)
    done = run_tool(CONVERTER, tmp_path, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f'test_32x32.mat not found in {tmp_path}')


def test_files_may_lie_in_the_folder_to_write(source, tmp_path):
    for file in source[0].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    run_tool(CONVERTER, tmp_path)
    assert len(list(tmp_path.glob('*/*/*.png'))) == 60
