"""Predictions side by side, through the command line, of models with random weights."""

import base64
import re
from io import BytesIO

import numpy as np
import pytest
import torch
from helpers.rooms import needs
from helpers.tools import CONFIG, ROOT, TOY_CONFIG, run_tool, write_config
from mmengine.config import Config
from PIL import Image

from mmdyn import OperatingPoint, at_operating_point, count_macs
from mmdyn.engine.build import build_model, forward_arguments, prepared
from mmdyn.evaluation.cost import CostMeter
from mmdyn.evaluation.saved_points import save_operating_points

TOOL = 'tools/visualization/predictions.py'
LEFT, RIGHT = [200, 0, 0], [0, 0, 200]
SHAPES = (64, 64), (64, 96)
NORM = dict(type='BN')


@pytest.fixture(autouse=True)
def restored_scope(mmpretrain_scope):
    """Models of other packages are built here: look names up as before, afterwards."""


@pytest.fixture
def images(tmp_path):
    """Two images of noise, of different sizes, whose channels differ."""
    rng = np.random.default_rng(0)
    files = []
    for number, shape in enumerate(SHAPES):
        pixels = rng.integers(0, 255, (*shape, 3), dtype=np.uint8) // [1, 2, 4]
        files.append(tmp_path / f'{number}.png')
        Image.fromarray(pixels.astype(np.uint8)).save(files[-1])
    return files


def loader(*steps, **settings):
    """A test dataloader without any data: only names and the pipeline are of use."""
    load = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]
    return dict(batch_size=1, dataset=dict(pipeline=[*load, *steps], **settings))


def head(in_channels, **kwargs):
    return dict(
        type='FCNHead',
        in_channels=in_channels,
        channels=8,
        num_convs=1,
        num_classes=2,
        norm_cfg=NORM,
        **kwargs,
    )


@pytest.fixture
def segmentor(tmp_path):
    """A segmentor that answers 'left' everywhere at exit 1, 'right' at exit 2."""
    write_config(
        tmp_path / 'config.py',
        default_scope='mmseg',
        model=dict(
            type='mmdyn.MultiExitEncoderDecoder',
            data_preprocessor=dict(type='SegDataPreProcessor'),
            backbone=dict(
                type='mmdyn.ResNet',
                depth=18,
                base_channels=8,
                out_indices=(0, 1, 2, 3),
                norm_cfg=NORM,
            ),
            decode_head=head(64, in_index=3),
            exits=[dict(stage=2, head=head(16))],
            test_cfg=dict(mode='whole'),
        ),
        test_dataloader=loader(
            dict(type='PackSegInputs'),
            type='BaseSegDataset',
            data_root='nowhere',
            data_prefix=dict(img_path='img'),
            metainfo=dict(classes=('left', 'right'), palette=[LEFT, RIGHT]),
        ),
        visualizer=dict(
            type='SegLocalVisualizer',
            name='visualizer',
            vis_backends=[dict(type='LocalVisBackend')],
            alpha=1.0,
        ),
    )
    model = build_model(Config.fromfile(tmp_path / 'config.py'))
    for number, answering in enumerate([model.exits[0], model.decode_head]):
        torch.nn.init.zeros_(answering.conv_seg.weight)
        answering.conv_seg.bias.data = torch.eye(2)[number]
    torch.save(model.state_dict(), tmp_path / 'weights.pth')
    return model


@pytest.fixture
def detector(tmp_path):
    write_config(
        tmp_path / 'config.py',
        default_scope='mmdet',
        _base_='mmdet::_base_/models/retinanet_r50_fpn.py',
        model=dict(
            backbone=dict(
                _delete_=True,
                type='mmdyn.SpatialResNet',
                depth=18,
                base_channels=8,
                budgets=(0.3, 0.7),
                execution='sparse',
                out_indices=(0, 1, 2, 3),
            ),
            neck=dict(in_channels=[8, 16, 32, 64], out_channels=16),
            bbox_head=dict(num_classes=1, in_channels=16, feat_channels=16),
            test_cfg=dict(max_per_img=3),
        ),
        test_dataloader=loader(
            dict(type='Resize', scale=SHAPES[0]),
            dict(type='PackDetInputs'),
            type='CocoDataset',
            data_root='nowhere',
            ann_file='none.json',
            metainfo=dict(classes=('thing',)),
        ),
        visualizer=dict(type='DetLocalVisualizer', vis_backends=[]),
    )
    model = build_model(Config.fromfile(tmp_path / 'config.py'))
    head = model.bbox_head
    torch.nn.init.normal_(head.retina_cls.weight)  # scores all over (0, 1)
    torch.nn.init.normal_(head.retina_reg.weight)
    torch.save(model.state_dict(), tmp_path / 'weights.pth')
    return model


@pytest.fixture(params=[TOY_CONFIG])
def classifier(request, tmp_path):
    base, model = str(ROOT / request.param), dict(backbone=dict(depth=8))
    write_config(tmp_path / 'config.py', _base_=base, model=model)
    model = build_model(Config.fromfile(tmp_path / 'config.py'))
    torch.save(model.state_dict(), tmp_path / 'weights.pth')
    return model


def draw(folder, images, *arguments, check=True):
    """Run the tool; its process, and the titles and pictures of the panels it drew."""
    out = folder / 'out.svg'
    arguments = ['--img', *images, '--out', out, *arguments]
    config, weights = folder / 'config.py', folder / 'weights.pth'
    done = run_tool(TOOL, config, weights, *arguments, check=check)
    content = out.read_text() if done.returncode == 0 else ''
    encoded = re.findall(r'data:image/png;base64,([^"]+)"', content)
    pictures = [Image.open(BytesIO(base64.b64decode(each))) for each in encoded]
    pictures = [np.asarray(each.convert('RGB'))[::-1] for each in pictures]  # flipped
    # Letters are drawn as paths, and matplotlib notes what they say.
    titles = re.findall(r'<!-- (.*?) -->', content)
    return done, titles, pictures


def printed_costs(done):
    """What the table says: costs by image and point."""
    lines = [line for line in done.stdout.splitlines() if '│' in line]
    rows = [[cell.strip() for cell in line.split('│')[1:-1]] for line in lines]
    return {(image, point): cost for image, point, cost in rows}


@needs('MultiExitEncoderDecoder')
@pytest.mark.needs_mmcv_ops
def test_segmentor(segmentor, images, tmp_path):
    done, titles, pictures = draw(tmp_path, images, '--points', 'exit=2', 'exit=1')
    expected, costs = [], {}
    for file, shape in zip(images, SHAPES):
        expected.append(file.name)
        for point in ('exit=2', 'exit=1'):
            with at_operating_point(segmentor, point):
                macs = count_macs(segmentor, (3, *shape))
            costs[file.name, point] = f'{macs / 1e6:.2f} MMACs'
            expected += [point, costs[file.name, point]]
    assert titles == expected
    assert printed_costs(done) == costs
    assert done.stdout.endswith(f'Written to {tmp_path / "out.svg"}\n')
    assert 'INFO' in done.stderr and 'INFO' not in done.stdout
    assert len(pictures) == 6
    for image, second, first in (pictures[:3], pictures[3:]):
        assert np.median(image, axis=(0, 1)) == pytest.approx([127, 63, 31], abs=8)
        assert (np.median(second, axis=(0, 1)) == RIGHT).all()
        assert (np.median(first, axis=(0, 1)) == LEFT).all()
    ratios = [picture.shape[1] / picture.shape[0] for picture in pictures]
    assert ratios == pytest.approx([1, 1, 1, 1.5, 1.5, 1.5], rel=0.05)


@needs('SpatialResNet')
@pytest.mark.needs_mmcv_ops
def test_detector(detector, images, tmp_path):
    done, titles, pictures = draw(tmp_path, images[:1])
    # At the dense point norms were not trained: it is left out.
    assert titles[1::2] == ['budget=0.3', 'budget=0.7']
    image = np.asarray(Image.open(images[0]))[..., ::-1]  # the pipeline's are BGR
    batch = dict(
        inputs=[torch.from_numpy(image.copy()).permute(2, 0, 1)],
        **forward_arguments(Config.fromfile(tmp_path / 'config.py'), *SHAPES[0]),
    )
    for point, cost in zip(titles[1::2], titles[2::2]):
        with at_operating_point(detector, point), torch.no_grad(), CostMeter() as meter:
            detector.test_step(batch)
        assert cost == f'{meter.macs / 1e6:.2f} MMACs'
        assert printed_costs(done)['0.png', point] == cost
    original, frugal, generous = (picture.astype(int) for picture in pictures)
    assert (abs(frugal - original) > 99).any()  # boxes
    assert (abs(frugal - generous) > 99).any()


@needs('MultiExitClassifier')
@pytest.mark.parametrize('classifier', [CONFIG], indirect=True)
def test_classifier_at_a_point_found_by_a_search(classifier, images, tmp_path):
    found = OperatingPoint('min-accuracy=90', dict(thresholds=[1e-3, 1.0]))
    save_operating_points(tmp_path / 'weights.pth', [found])
    done, titles, pictures = draw(tmp_path, images[:1])
    offered = ['exit=1', 'exit=2', 'exit=3', 'quick', 'balanced', 'careful']
    points = [point for _, point in printed_costs(done)]
    assert points == [*offered, 'min-accuracy=90'] and len(pictures) == 8
    costs = dict(zip(titles[1::2], titles[2::2]))
    with at_operating_point(classifier, 'exit=1'):
        macs = count_macs(classifier, (1, 32, 32))
    assert costs['min-accuracy=90'] == costs['exit=1'] == f'{macs / 1e6:.2f} MMACs'
    shown = dict(zip(points, pictures[1:]))
    assert (shown['min-accuracy=90'] == shown['exit=1']).all()


def test_classes_are_those_that_the_checkpoint_was_trained_on(
    classifier, images, tmp_path
):
    """The dataset finds them in the names of its folders, which are not looked at."""
    _, _, (_, numbered) = draw(tmp_path, images[:1], '--points', 'pool=4')
    names = dict(dataset_meta=dict(classes=[f'class {i}' for i in range(10)]))
    checkpoint = dict(state_dict=classifier.state_dict(), meta=names)
    torch.save(checkpoint, tmp_path / 'weights.pth')
    _, _, (_, named) = draw(tmp_path, images[:1], '--points', 'pool=4')
    changed = np.flatnonzero((numbered != named).any(axis=(1, 2)))
    assert len(changed) > 0 and changed.max() < 0.1 * len(named)  # the label, on top


def test_datasets_of_arrays_get_rgb(images):
    """CIFAR's arrays are RGB and its preprocessor leaves them so; mmcv reads BGR."""
    pixels = np.asarray(Image.open(images[0]))
    for steps, expected in (
        ([], pixels),
        ([dict(type='LoadImageFromFile')], pixels[..., ::-1]),
    ):
        pipeline = [*steps, dict(type='PackInputs')]
        cfg = Config(dict(test_dataloader=dict(dataset=dict(pipeline=pipeline))))
        (image,) = prepared(cfg, str(images[0]))['inputs']
        assert (image.permute(1, 2, 0).numpy() == expected).all()


def test_points_are_refused(classifier, images, tmp_path):
    done, *_ = draw(tmp_path, images, '--points', 'pool=2', 'pool=9', check=False)
    expected = "unknown operating points ['pool=9']; valid ones: ['pool=4', 'pool=2', 'de"
    assert done.returncode == 1 and expected in done.stderr.splitlines()[-1]


def test_files_are_refused(classifier, images, tmp_path):
    text = tmp_path / 'config.py'
    for image, status, message in (
        ('none.png', 2, 'there is no file none.png'),
        (text, 1, f'{text} is not an image that OpenCV can read'),
    ):
        done, *_ = draw(tmp_path, [images[0], image], check=False)
        assert done.returncode == status and message in done.stderr
    (tmp_path / 'weights.pth').unlink()
    done, *_ = draw(tmp_path, images, check=False)
    expected = f'there is no file {tmp_path / "weights.pth"}'
    assert done.returncode == 2 and expected in done.stderr


def test_a_config_without_visualizer_and_data_is_refused(images, tmp_path):
    write_config(tmp_path / 'config.py', model=dict(type='ImageClassifier'))
    torch.save({}, tmp_path / 'weights.pth')
    done, *_ = draw(tmp_path, images, check=False)
    expected = 'drawing predictions needs visualizer, test_dataloader in '
    assert done.returncode == 1 and expected in done.stderr
