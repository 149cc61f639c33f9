"""Digits in the form of Cityscapes and VOC: what is written, and who reads it."""

import itertools
import sys
from pathlib import Path
from xml.etree import ElementTree

import mmdet
import mmseg
import numpy as np
import pytest
import torch
from helpers.tools import ROOT, run_tool
from mmengine.config import Config
from mmengine.registry import DATASETS, METRICS, DefaultScope
from mmengine.structures import InstanceData
from PIL import Image
from scipy.ndimage import binary_dilation, binary_erosion
from sklearn.datasets import load_digits

TOOL = 'tools/dataset_converters/digits.py'
NAMES = ['aeroplane', 'bicycle', 'bird', 'boat', 'bottle']
NAMES += ['bus', 'car', 'cat', 'chair', 'cow']
GRID = 32  # digits are scaled to as many px to compare them


@pytest.fixture(scope='module')
def cityscapes(tmp_path_factory):
    """The folder the tool wrote, and what it printed."""
    out = tmp_path_factory.mktemp('scenes') / 'cityscapes'
    return out, run_tool(TOOL, out, '--layout', 'cityscapes').stdout


@pytest.fixture(scope='module')
def voc(tmp_path_factory):
    """The folder the tool wrote, and what it printed."""
    out = tmp_path_factory.mktemp('scenes') / 'voc'
    return out, run_tool(TOOL, out, '--layout', 'voc').stdout


@pytest.fixture
def modules(monkeypatch):
    """The modules that draw and that write scenes, imported as the tool does."""
    monkeypatch.syspath_prepend(ROOT / 'tools' / 'dataset_converters')
    import digit_scenes
    import digits
    import scene_layouts

    yield digits, digit_scenes, scene_layouts
    for name in ('digits', 'digit_scenes', 'scene_layouts'):
        del sys.modules[name]


def read(path):
    return np.asarray(Image.open(path))


def city_scenes(out, split):
    """Image and mask of each scene."""
    for path in sorted(out.glob(f'gtFine/{split}/digits/*_gtFine_labelTrainIds.png')):
        name = path.name.replace('gtFine_labelTrainIds', 'leftImg8bit')
        yield read(out / 'leftImg8bit' / split / 'digits' / name), read(path)


def voc_names(out, year, images):
    return (out / year / 'ImageSets' / 'Main' / f'{images}.txt').read_text().split()


def voc_objects(out, year, name):
    """Digit, xmin, ymin, xmax and ymax of each object, as written."""
    root = ElementTree.parse(out / year / 'Annotations' / f'{name}.xml').getroot()
    for found in root.iter('object'):
        box = found.find('bndbox')
        edges = [int(box.find(edge).text) for edge in ('xmin', 'ymin', 'xmax', 'ymax')]
        yield NAMES.index(found.find('name').text), *edges


def stock_config(package, name):
    folder = Path(package.__file__).parent / '.mim' / 'configs' / '_base_' / 'datasets'
    return Config.fromfile(folder / name)


def bounds(mask):
    """Slices of the rows and of the columns that a mask reaches."""
    lines = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    return tuple(slice(some[0], some[-1] + 1) for some in lines)


def on_grid(pixels):
    """Scale (H, W) to the grid and flatten it; a cell is the mean of what it covers."""
    image = Image.fromarray(pixels.astype(np.float32))
    return np.asarray(image.resize((GRID, GRID), Image.Resampling.BOX)).ravel()


class Source:
    """All digits as scikit-learn has them, to find out which one a scene shows."""

    def __init__(self, held_out):
        images, self.labels = load_digits(return_X_y=True)
        self.held_out = np.isin(np.arange(len(images)), held_out)
        large = [
            np.asarray(Image.fromarray(image).resize((96, 96), Image.Resampling.BICUBIC))
            for image in images.reshape(-1, 8, 8).astype(np.float32)
        ]
        masks = [(grey > 8)[bounds(grey > 8)] for grey in large]
        self.inks = np.array([on_grid(mask) for mask in masks])
        self.aspects = np.array([mask.shape[1] / mask.shape[0] for mask in masks])

    def candidates(self, digit, height, width):
        """Numbers of the digit's images whose proportions fit a box to 2 px."""
        fits = abs(self.aspects - width / height) <= 2 / height
        return np.flatnonzero(fits & (self.labels == digit))


@pytest.fixture(scope='module')
def source(digits):
    return Source([int(path.stem) for path in Path(digits, 'val').glob('*/*.png')])


# Coordinates, squares and cubes: what a digit's background may look like.
_Y, _X = np.mgrid[-1 : 1 : GRID * 1j, -1 : 1 : GRID * 1j]
SMOOTH = np.stack([_X**i * _Y**j for i in range(4) for j in range(4 - i)], axis=-1)
SMOOTH = np.linalg.qr(SMOOTH.reshape(GRID**2, -1))[0]


def explained(image, box, inks):
    """Share of the variance in a box, beyond a smooth background, that inks explain."""
    left, top, right, bottom = box
    cut = image[top - 1 : bottom, left - 1 : right]
    colours = np.stack([on_grid(cut[..., i]) for i in range(3)], axis=-1)
    colours = colours - SMOOTH @ (SMOOTH.T @ colours)
    inks = inks - (inks @ SMOOTH) @ SMOOTH.T
    shared = (inks @ colours / np.linalg.norm(inks, axis=1, keepdims=True)) ** 2
    return shared.sum(1) / (colours**2).sum()


def test_stock_config_of_cityscapes_reads_scenes(cityscapes):
    out, printed = cityscapes
    assert printed.strip() == f'{out}: 200 training and 80 validation images'
    cfg = stock_config(mmseg, 'cityscapes.py')
    with DefaultScope.overwrite_default_scope('mmseg'):
        for loader, images in (('train_dataloader', 200), ('val_dataloader', 80)):
            cfg[loader].dataset.data_root = str(out)
            dataset = DATASETS.build(cfg[loader].dataset)
            assert len(dataset) == images
        packed = dataset[3]
    assert dataset.metainfo['classes'][10] == 'sky'
    assert packed['inputs'].shape == (3, 1024, 2048)
    name = 'digits_000203_000019_gtFine_labelTrainIds.png'
    mask = read(out / 'gtFine' / 'val' / 'digits' / name)
    assert np.array_equal(packed['data_samples'].gt_sem_seg.data[0], mask)


def test_masks_hold_digits_and_background(cityscapes):
    for split, images in (('train', 200), ('val', 80)):
        masks = np.stack([mask for _, mask in city_scenes(cityscapes[0], split)])
        assert masks.shape == (images, 96, 192) and masks.dtype == np.uint8
        shares = np.bincount(masks.ravel(), minlength=11) / masks.size
        assert len(shares) == 11 and 0.8 < shares[10] < 0.95
        assert shares[:10].min() > 0.005


def test_ink_differs_from_what_is_around_it(cityscapes):
    distances = []
    for image, mask in city_scenes(cityscapes[0], 'val'):
        near_ink = binary_dilation(mask < 10, iterations=2)
        for digit in set(mask.ravel()) - {10}:
            ink = image[binary_erosion(mask == digit)].astype(float)
            around = binary_dilation(mask == digit, iterations=5) & ~near_ink
            pairs = ink[::7, None] - image[around][None, ::7]
            distances.append(np.median(np.linalg.norm(pairs, axis=-1)))
    assert len(distances) > 250 and min(distances) > 80


def test_no_brightness_tells_ink_from_background(cityscapes):
    images, masks = zip(*city_scenes(cityscapes[0], 'val'))
    brightness, ink = np.stack(images).mean(-1), np.stack(masks) < 10
    for limit in range(10, 250, 10):
        for found in (brightness > limit, brightness < limit):
            assert (found & ink).sum() / (found | ink).sum() < 0.25


@pytest.mark.parametrize(('split', 'least'), [('train', 600), ('val', 240)])
def test_cityscapes_shows_digits_of_its_split(cityscapes, source, split, least):
    found = []
    for _, mask in city_scenes(cityscapes[0], split):
        for digit in set(mask.ravel()) - {10}:
            ink = (mask == digit)[bounds(mask == digit)]
            numbers = source.candidates(digit, *ink.shape)
            differences = ((source.inks[numbers] - on_grid(ink)) ** 2).mean(1)
            # Where a scene has two of a digit, their mask is like none.
            if differences.min(initial=1) < 0.1:
                found.append(numbers[differences.argmin()])
    assert len(found) > least
    assert (source.held_out[found] == (split == 'val')).all()


def test_voc_is_written_as_voc(voc):
    out, printed = voc
    assert printed.strip() == f'{out}: 200 training and 80 test images'
    for year, first, tests in (('VOC2007', '000001', 80), ('VOC2012', '2012_000001', 0)):
        train, val, both = (voc_names(out, year, s) for s in ('train', 'val', 'trainval'))
        assert len(train) == len(val) == 50 and train + val == both and both[0] == first
        names = both + (voc_names(out, year, 'test') if tests else [])
        assert len(set(names)) == 100 + tests
        for folder, suffix in (('JPEGImages', '.jpg'), ('Annotations', '.xml')):
            paths = (out / year / folder).iterdir()
            assert sorted(path.name for path in paths) == [n + suffix for n in names]
        written = ElementTree.parse(out / year / 'Annotations' / f'{first}.xml').getroot()
        size = [
            written.find(f'size/{side}').text for side in ('height', 'width', 'depth')
        ]
        image = read(out / year / 'JPEGImages' / written.find('filename').text)
        assert tuple(map(int, size)) == image.shape == (128, 128, 3)
        assert written.find('folder').text == year
        flags = ('truncated', 'occluded', 'difficult')
        assert {written.find(f'object/{flag}').text for flag in flags} == {'0'}


def test_stock_config_of_voc_reads_scenes(voc):
    cfg = stock_config(mmdet, 'voc0712.py')
    train, test = cfg.train_dataloader.dataset.dataset, cfg.test_dataloader.dataset
    for settings in (*train.datasets, test):
        settings.data_root = str(voc[0])
    with DefaultScope.overwrite_default_scope('mmdet'):
        train, test = DATASETS.build(train), DATASETS.build(test)
        packed = test[3]
    assert (len(train), len(test)) == (200, 80)
    for dataset in train.datasets:
        for i in range(100):
            instances = dataset.get_data_info(i)['instances']
            assert 2 <= len(instances) <= 4
            # The config would not train on a box of fewer px.
            assert not any(instance['ignore_flag'] for instance in instances)
    assert packed['inputs'].shape == (3, 600, 600)
    instances = packed['data_samples'].gt_instances
    read_boxes = np.c_[instances.labels, instances.bboxes.tensor + 1]
    assert np.array_equal(read_boxes, list(voc_objects(voc[0], 'VOC2007', '000104')))


@pytest.mark.parametrize(('moved', 'precision'), [(0, 1), (8, 1), (24, 0)])
def test_stock_evaluator_of_voc_scores_boxes(voc, moved, precision):
    """Boxes are over 32 px wide: moved by 8 px, they overlap with an IoU over 0.5."""
    cfg = stock_config(mmdet, 'voc0712.py')
    cfg.test_dataloader.dataset.data_root = str(voc[0])
    with DefaultScope.overwrite_default_scope('mmdet'):
        dataset = DATASETS.build(cfg.test_dataloader.dataset)
        metric = METRICS.build(cfg.test_evaluator)
    metric.dataset_meta = dataset.metainfo
    for i in range(20):
        sample = dataset[i]['data_samples']
        for instances in (sample.gt_instances, sample.ignored_instances):
            instances.bboxes = instances.bboxes.tensor
        truth = sample.gt_instances
        sample.pred_instances = InstanceData(
            bboxes=truth.bboxes + torch.tensor([moved, 0, moved, 0]),
            labels=truth.labels,
            scores=torch.ones(len(truth)),
        )
        metric.process({}, [sample.to_dict()])
    assert metric.evaluate(20)['pascal_voc/mAP'] == pytest.approx(precision)


@pytest.mark.parametrize(('images', 'share'), [('trainval', 0), ('test', 1)])
def test_voc_shows_digits_of_its_split_in_tight_boxes(voc, source, images, share):
    held_out, tight = [], []
    for name in voc_names(voc[0], 'VOC2007', images)[:60]:
        image = read(voc[0] / 'VOC2007' / 'JPEGImages' / f'{name}.jpg').astype(float)
        for digit, *box in voc_objects(voc[0], 'VOC2007', name):
            left, top, right, bottom = box
            numbers = source.candidates(digit, bottom - top + 1, right - left + 1)
            shares = explained(image, box, source.inks[numbers])
            shown = numbers[shares.argmax()]
            held_out.append(source.held_out[shown])
            for edge, step in itertools.product(range(4), (-2, 2)):
                other = [*box]
                other[edge] += step
                if 1 <= other[edge] <= 128:
                    (less,) = explained(image, other, source.inks[[shown]])
                    tight.append(less < shares.max())
    # Some ones are plain bars and look alike on a background that happens to be uneven.
    assert len(held_out) > 120
    assert np.mean(held_out) == pytest.approx(share, abs=0.01)
    assert len(tight) > 900 and np.mean(tight) > 0.97


def test_boxes_are_those_of_the_masks(modules):
    digits, digit_scenes, scene_layouts = modules
    train, _ = digits.load()
    rng = np.random.default_rng(1)
    for form in (scene_layouts.CITYSCAPES, scene_layouts.VOC):
        for _ in range(20):
            scene = digit_scenes.draw_scene(train, form, rng)
            rest = scene.mask.copy()
            for digit, (left, top, right, bottom) in scene.objects:
                assert (
                    0 <= left < right <= form.width and 0 <= top < bottom <= form.height
                )
                ink = rest[top:bottom, left:right]
                # One digit reaches all edges; no other one is in its box.
                assert set(ink.ravel()) == {digit, 10}
                for edge in (ink[0], ink[-1], ink[:, 0], ink[:, -1]):
                    assert digit in edge
                ink[:] = 10
            assert (rest == 10).all()
            least, most = form.counts
            assert least <= len(scene.objects) <= most


@pytest.mark.parametrize(
    ('layout', 'folders'),
    [
        ('cityscapes', ('leftImg8bit/train/digits', 'gtFine/train/digits')),
        ('voc', ('VOC2007/JPEGImages', 'VOC2007/Annotations')),
    ],
)
def test_scenes_are_the_same_each_time(
    layout, folders, modules, tmp_path, monkeypatch, request
):
    """Another process writes the same first scenes, byte by byte."""
    digits, _, scene_layouts = modules
    monkeypatch.setattr(scene_layouts, 'CITYSCAPES_TRAIN', 5)
    monkeypatch.setattr(scene_layouts, 'CITYSCAPES_VAL', 0)
    monkeypatch.setattr(scene_layouts, 'VOC_TRAINVAL', 5)
    monkeypatch.setattr(scene_layouts, 'VOC_TEST', 0)
    digits.LAYOUTS[layout](tmp_path, *digits.load())
    out, _ = request.getfixturevalue(layout)
    for folder in folders:
        first = sorted((tmp_path / folder).iterdir())[:5]
        assert len(first) == 5
        for path in first:
            assert path.read_bytes() == (out / folder / path.name).read_bytes()
