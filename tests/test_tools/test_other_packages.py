"""The tools with mmseg and mmdet configs whose backbone is swapped for one of ours."""

import json

import numpy as np
import pytest
from helpers.tools import run_tool, write_config
from PIL import Image

pytestmark = pytest.mark.needs_mmcv_ops

SIZE = 64
BACKBONE = dict(depth=18, num_stages=4, out_indices=(0, 1, 2, 3))
RUNTIME = dict(
    train_cfg=dict(type='IterBasedTrainLoop', max_iters=2, val_interval=100),
    optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=1e-3)),
    default_hooks=dict(
        checkpoint=dict(type='CheckpointHook', interval=2, by_epoch=False),
        logger=dict(type='LoggerHook', interval=1, log_metric_by_epoch=False),
    ),
    randomness=dict(seed=0),
    test_cfg=dict(type='TestLoop'),
)


def loader(dataset, batch_size=2):
    return dict(
        batch_size=batch_size,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dataset,
    )


@pytest.fixture
def images(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / 'img').mkdir()
    for i in range(4):
        pixels = rng.integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / 'img' / f'{i}.png')
    return tmp_path


@pytest.fixture
def segmentation(images):
    rng = np.random.default_rng(1)
    (images / 'ann').mkdir()
    for i in range(4):
        labels = rng.integers(0, 3, (SIZE, SIZE), dtype=np.uint8)
        Image.fromarray(labels).save(images / 'ann' / f'{i}.png')
    norm = dict(type='BN')
    head = dict(type='FCNHead', num_convs=1, channels=16, num_classes=3, norm_cfg=norm)
    steps = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]
    dataset = dict(
        type='BaseSegDataset',
        data_root=str(images),
        data_prefix=dict(img_path='img', seg_map_path='ann'),
        img_suffix='.png',
        metainfo=dict(classes=('a', 'b', 'c'), palette=[[0] * 3, [9] * 3, [99] * 3]),
        pipeline=[*steps, dict(type='PackSegInputs')],
    )
    write_config(
        images / 'config.py',
        default_scope='mmseg',
        model=dict(
            type='EncoderDecoder',
            data_preprocessor=dict(type='SegDataPreProcessor', size=(SIZE, SIZE)),
            backbone=dict(
                type='mmdyn.ResNet',
                strides=(1, 2, 1, 1),
                dilations=(1, 1, 2, 4),
                contract_dilation=True,
                norm_cfg=norm,
                **BACKBONE,
            ),
            decode_head=dict(in_channels=512, in_index=3, **head),
            auxiliary_head=dict(in_channels=256, in_index=2, **head),
            test_cfg=dict(mode='whole'),
        ),
        train_dataloader=loader(dataset),
        test_dataloader=loader(dataset, 1),
        test_evaluator=dict(type='IoUMetric', iou_metrics=['mIoU']),
        **RUNTIME,
    )
    return images


@pytest.fixture
def detection(images):
    boxes = [
        dict(id=i, image_id=i, category_id=1, bbox=[8, 8, 40, 30], area=1200, iscrowd=0)
        for i in range(4)
    ]
    files = [dict(id=i, file_name=f'{i}.png', height=SIZE, width=SIZE) for i in range(4)]
    annotations = dict(
        images=files, annotations=boxes, categories=[dict(id=1, name='box')]
    )
    (images / 'ann.json').write_text(json.dumps(annotations))
    dataset = dict(
        type='CocoDataset',
        data_root=str(images),
        ann_file='ann.json',
        data_prefix=dict(img='img'),
        metainfo=dict(classes=('box',)),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(type='Resize', scale=(SIZE, SIZE)),
            dict(type='PackDetInputs'),
        ],
    )
    write_config(
        images / 'config.py',
        default_scope='mmdet',
        _base_='mmdet::_base_/models/faster-rcnn_r50_fpn.py',
        model=dict(
            backbone=dict(
                _delete_=True,
                type='mmdyn.ResNet',
                frozen_stages=1,
                norm_eval=True,
                **BACKBONE,
            ),
            neck=dict(in_channels=[64, 128, 256, 512]),
            roi_head=dict(bbox_head=dict(num_classes=1)),
        ),
        train_dataloader=loader(dataset),
        test_dataloader=loader(dataset, 1),
        test_evaluator=dict(type='CocoMetric', ann_file=str(images / 'ann.json')),
        **RUNTIME,
    )
    return images


@pytest.mark.parametrize(
    ('data', 'metric', 'chosen'),
    [
        ('segmentation', 'mIoU', 'mIoU'),
        ('detection', 'coco/bbox_mAP', 'coco/bbox_mAP_50'),
    ],
)
def test_train_test_and_count(request, data, metric, chosen):
    folder = request.getfixturevalue(data)
    config, work_dir = folder / 'config.py', folder / 'work'
    run_tool('tools/train.py', config, '--work-dir', work_dir)
    arguments = [config, work_dir / 'iter_2.pth', '--work-dir', work_dir]
    done = run_tool('tools/test.py', *arguments, '--metric', chosen)
    assert '│ dense' in done.stdout
    report = json.loads((work_dir / 'operating_points.json').read_text())
    assert report['metric'] == chosen
    (point,) = report['points']
    assert point['name'] == 'dense' and point['cost_ratio'] == 1
    assert metric in point['metrics'] and point['macs_per_image'] > 1e6
    flops = run_tool('tools/analysis_tools/get_flops.py', config, '--shape', SIZE)
    row = next(line for line in flops.stdout.splitlines() if line.startswith('│ dense'))
    macs = float(row.split('│')[2]) * 1e6
    if data == 'segmentation':  # a detector's cost depends on its proposals
        assert macs == pytest.approx(point['macs_per_image'], rel=1e-3)


def test_empty_training_set_is_refused(segmentation):
    for path in (segmentation / 'img').iterdir():
        path.unlink()
    done = run_tool(
        'tools/train.py',
        segmentation / 'config.py',
        '--work-dir',
        segmentation / 'work',
        check=False,
    )
    expected = (
        f'train_dataloader.dataset is empty; it looked in data_root={str(segmentation)!r}'
    )
    assert expected in done.stderr
