"""Our backbones inside stock segmentors and detectors: those there are."""

from itertools import product

import pytest
import torch
from helpers.paths import CONFIGS
from helpers.rooms import existing, needs
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import InstanceData, PixelData

from mmdyn import at_operating_point, operating_points

pytestmark = pytest.mark.needs_mmcv_ops

FCN = CONFIGS / '_base_/mmseg/fcn_r50-d8_4xb2-80k_cityscapes-512x1024.py'
FASTER_RCNN = 'mmdet::pascal_voc/faster-rcnn_r50_fpn_1x_voc0712.py'
RETINANET = 'mmdet::pascal_voc/retinanet_r50_fpn_1x_voc0712.py'
NARROW = dict(base_channels=16, stem_channels=16)
ALL = {
    'ResNet': dict(type='mmdyn.ResNet', **NARROW),
    'ResNetMoD': dict(type='mmdyn.ResNetMoD', divisor=16, **NARROW),
    # Not 'auto', which would take the time of both ways first.
    'SpatialResNet': dict(
        type='mmdyn.SpatialResNet', budgets=(0.3, 1.0), execution='sparse', **NARROW
    ),
    'CNMM': dict(
        _delete_=True,
        type='mmdyn.CNMM',
        scales=(0, 0, 1, 1, 2, 2, 3, 3),
        channels=(4, 6, 8, 10),
        stem='imagenet',
        out_indices=(1, 3, 5, 7),
        out_channels=(64, 128, 256, 512),
        keep=(15,),
    ),
}
BACKBONES = existing(ALL)
RESNETS = [name for name in BACKBONES if name != 'CNMM']
SWITCHED = [name for name in BACKBONES if name in ('SpatialResNet', 'CNMM')]


# Necks and heads that take what narrow backbones give, and are as narrow.
NECK = dict(in_channels=[64, 128, 256, 512], out_channels=16)
HEADS = {
    FCN: dict(
        decode_head=dict(in_channels=512, channels=16),
        auxiliary_head=dict(in_channels=256, channels=16),
    ),
    FASTER_RCNN: dict(
        neck=NECK,
        rpn_head=dict(in_channels=16, feat_channels=16),
        roi_head=dict(
            bbox_roi_extractor=dict(out_channels=16),
            bbox_head=dict(in_channels=16, fc_out_channels=32),
        ),
    ),
    RETINANET: dict(neck=NECK, bbox_head=dict(in_channels=16, feat_channels=16)),
}


def build(base, backbone):
    """The model of a stock config with another backbone, as it trains without a GPU."""
    changes = Config(dict(model=dict(backbone=backbone, **HEADS[base])))
    text = f'_base_ = {str(base)!r}\n{changes.pretty_text}'
    return build_small(Config.fromstring(text, '.py'))


def build_small(cfg):
    init_default_scope(cfg.default_scope)
    if cfg.default_scope == 'mmseg':
        cfg.model.data_preprocessor.size = (64, 64)  # to which batches are padded
    return revert_sync_batchnorm(MODELS.build(cfg.model))


def boxes():
    """Two images of different sizes, in pixels, with a box each."""
    from mmdet.structures import DetDataSample

    samples = []
    for height, width in ((60, 90), (75, 64)):
        shape = dict(img_shape=(height, width), ori_shape=(height, width))
        sample = DetDataSample(metainfo=dict(shape, scale_factor=(1.0, 1.0)))
        sample.gt_instances = InstanceData(
            bboxes=torch.tensor([[8.0, 8.0, 44.0, 40.0]]), labels=torch.tensor([3])
        )
        samples.append(sample)
    return [torch.rand(3, 60, 90) * 255, torch.rand(3, 75, 64) * 255], samples


def labels():
    """Two images of one size with a class for each pixel."""
    from mmseg.structures import SegDataSample

    samples = []
    for _ in range(2):
        size = (64, 64)
        sample = SegDataSample(metainfo=dict(img_shape=size, ori_shape=size))
        sample.gt_sem_seg = PixelData(data=torch.randint(0, 19, (1, 64, 64)))
        samples.append(sample)
    return [torch.rand(3, 64, 64) * 255 for _ in range(2)], samples


def training_step(model, inputs, data_samples):
    """Losses of one step; gradients are left behind."""
    data = dict(inputs=inputs, data_samples=data_samples)
    data = model.data_preprocessor(data, training=True)
    total, losses = model.parse_losses(model(**data, mode='loss'))
    assert torch.isfinite(total)
    total.backward()
    return losses


def predict(model, inputs, data_samples):
    return model.eval().test_step(dict(inputs=inputs, data_samples=data_samples))


@pytest.mark.parametrize(
    ('detector', 'name'),
    [
        *product([FASTER_RCNN], RESNETS),
        pytest.param(RETINANET, 'SpatialResNet', marks=needs('SpatialResNet')),
    ],
)
def test_detectors_freeze_what_the_stock_ones_do(detector, name):
    """frozen_stages=1 and norm_eval=True are in the stock configs."""
    model = build(detector, BACKBONES[name]).train()
    backbone = model.backbone
    assert backbone.frozen_stages == 1 and backbone.norm_eval
    before = {k: v.clone() for k, v in backbone.named_buffers() if 'running' in k}
    with at_operating_point(model, operating_points(model)[0]):
        training_step(model, *boxes())
    assert all(
        torch.equal(v, before[k]) for k, v in backbone.named_buffers() if k in before
    )
    gradients = {k: p.grad for k, p in backbone.named_parameters()}
    for key, gradient in gradients.items():
        if key.startswith(('conv1', 'bn1', 'layer1')) and 'at_budget' not in key:
            assert gradient is None, key
    assert gradients['layer2.0.conv1.weight'].abs().max() > 0
    if name == 'SpatialResNet':
        # What the budgets have of their own is in no stock checkpoint.
        unit = 'layer1.0.at_budget.0_3.mask_unit'
        assert any(k.startswith(unit) and g is not None for k, g in gradients.items())
    if name == 'ResNetMoD':
        assert gradients['layer2.1.conv1.weight'].abs().max() > 0


@pytest.mark.parametrize('detector', [FASTER_RCNN, RETINANET])
@pytest.mark.parametrize('name', SWITCHED)
def test_batches_of_different_sizes_at_every_point(detector, name):
    model = build(detector, BACKBONES[name])
    points = operating_points(model)
    assert len(points) == 2
    for point in points:
        with at_operating_point(model, point):
            found = predict(model, *boxes())
        for sample, (height, width) in zip(found, ((60, 90), (75, 64))):
            predicted = sample.pred_instances.bboxes
            assert len(predicted) == 0 or (
                predicted.min() >= 0
                and predicted[:, 2].max() <= width
                and predicted[:, 3].max() <= height
            )


@needs('SpatialResNet')
def test_regions_are_cut_out_of_what_was_computed():
    """RoIAlign reads the memory of maps as it lies, whatever their format says."""
    model = build(FASTER_RCNN, BACKBONES['SpatialResNet']).eval()
    images = torch.rand(1, 3, 64, 96)
    regions = torch.tensor([[0, 8.0, 8.0, 60.0, 50.0], [0, 30.0, 5.0, 90.0, 60.0]])
    found = []
    for execution in ('sparse', 'masked'):
        for block in model.backbone.masked_blocks().values():
            block.execution = execution
        with at_operating_point(model, 'budget=0.3'), torch.no_grad():
            features = model.extract_feat(images)
            found.append(model.roi_head.bbox_roi_extractor(features[:4], regions))
    sparse, masked = found
    torch.testing.assert_close(sparse, masked, rtol=1e-3, atol=1e-4)
    assert masked.std() > 1e-2


@needs('SpatialResNet')
def test_segmentors_say_the_same_whether_they_skip_or_mask():
    model = build(FCN, BACKBONES['SpatialResNet']).eval()
    images, found = torch.rand(2, 3, 64, 64), []
    for execution in ('sparse', 'masked'):
        for block in model.backbone.masked_blocks().values():
            block.execution = execution
        with at_operating_point(model, 'budget=0.3'), torch.no_grad():
            found.append(model(images))
    sparse, masked = found
    assert masked.std() > 1e-4
    torch.testing.assert_close(sparse, masked, rtol=1e-3, atol=1e-3 * masked.std().item())


@pytest.mark.parametrize('name', RESNETS)
def test_segmentors_train_and_predict(name):
    model = build(FCN, BACKBONES[name]).train()
    with at_operating_point(model, operating_points(model)[0]):
        losses = training_step(model, *labels())
    assert {'decode.loss_ce', 'aux.loss_ce'} <= losses.keys()
    gradients = {k: p.grad for k, p in model.backbone.named_parameters()}
    assert gradients['layer4.0.conv1.weight'].abs().max() > 0
    for point in operating_points(model):
        with at_operating_point(model, point):
            found = predict(model, *labels())
        assert [s.pred_sem_seg.data.shape for s in found] == [(1, 64, 64)] * 2


@pytest.mark.parametrize('base', [FCN, FASTER_RCNN])
def test_the_type_alone_is_enough(base):
    """What ``--cfg-options model.backbone.type=mmdyn.ResNet`` makes of a config."""
    cfg = Config.fromstring(f'_base_ = {str(base)!r}', '.py')
    cfg.merge_from_dict({'model.backbone.type': 'mmdyn.ResNet'})
    model = build_small(cfg).train()
    training_step(model, *(labels() if base is FCN else boxes()))
    gradients = [p.grad for p in model.backbone.layer4.parameters()]
    assert all(gradient is not None for gradient in gradients)
