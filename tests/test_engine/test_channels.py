import copy

import pytest
import torch
from helpers.rooms import needs
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from mmdyn.engine.channels import check_channels
from mmdyn.engine.runner import build_runner
from mmdyn.models.resnet import ResNet

CHANNELS = [64, 128, 256, 512]
GIVEN = 'the ResNet gives (64, 128, 256, 512)'


class Model(nn.Module):
    """What check_channels looks at: a backbone and whatever takes its maps."""

    def __init__(self, backbone=None, **parts):
        super().__init__()
        self.backbone = backbone or ResNet(18, out_indices=(0, 1, 2, 3))
        for name, part in parts.items():
            setattr(self, name, part)


def refusal(model):
    try:
        check_channels(model)
    except ValueError as error:
        return str(error)
    return None


def takes(part, backbone):
    """Whether a neck or head can be run on a backbone's maps."""
    with torch.no_grad():
        maps = backbone.eval()(torch.rand(1, 3, 64, 64))
        try:
            part.eval()(maps)
        except (AssertionError, IndexError, RuntimeError):
            return False
    return True


def taking(in_channels, **attributes):
    """Something that says what it takes."""
    module = nn.Identity()
    for name, value in dict(in_channels=in_channels, **attributes).items():
        setattr(module, name, value)
    return module


def classifier(channels, **backbone):
    head = dict(type='mmpretrain.LinearClsHead', num_classes=2, in_channels=channels)
    return dict(
        type='mmpretrain.ImageClassifier',
        backbone=backbone,
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=head,
    )


@pytest.mark.parametrize(
    ('backbone', 'channels'),
    [
        pytest.param(dict(type='CNMM'), 64, marks=needs('CNMM')),
        pytest.param(dict(type='CNMM', samples=1), 64, marks=needs('CNMM')),
        (dict(type='DenseNetCIFAR', depth=10, growth_rate=4), 40),
        pytest.param(dict(type='MobileNetV2MoD'), 1280, marks=needs('MobileNetV2MoD')),
        (dict(type='MSDNet', stem='cifar', num_blocks=2, base=1, step=1), 56),
        (dict(type='ResNet', depth=8, in_channels=1), 64),
        (dict(type='ResNet', depth=18, out_indices=(1, 3)), 512),
        pytest.param(
            dict(type='SpatialResNet', depth=8), 64, marks=needs('SpatialResNet')
        ),
        pytest.param(dict(type='VGGMoD', depth=16), 512, marks=needs('VGGMoD')),
    ],
    ids=lambda value: value['type'] if isinstance(value, dict) else str(value),
)
def test_classifiers(backbone, channels):
    name = backbone['type']
    model = MODELS.build(classifier(channels, **{**backbone, 'type': f'mmdyn.{name}'}))
    assert refusal(model) is None
    model.head.in_channels = 2048
    message = refusal(model)
    assert message.startswith(f'model.head has in_channels=2048, but the {name} gives ')
    assert message.endswith(f'in_channels must be {channels}, that of the last map')


def test_classifier_without_a_neck():
    assert refusal(Model(head=taking(256))) == (
        f'model.head has in_channels=256, but {GIVEN}: in_channels must be 512, that of '
        f'the last map'
    )


def test_necks_that_make_other_numbers_of_features_are_left_alone():
    class Flatten(nn.Module):
        def forward(self, maps):
            return tuple(map.flatten(1) for map in maps)

    head = taking(2048)  # 512 × 2 × 2
    assert refusal(Model(neck=Flatten(), head=head)) is None
    assert refusal(Model(neck=nn.Conv2d(512, 2048, 1), head=head)) is None


@pytest.mark.needs_mmcv_ops
@pytest.mark.parametrize(
    ('type', 'arguments', 'problem'),
    [
        ('FCNHead', dict(in_channels=512), None),
        ('FCNHead', dict(in_channels=256, in_index=2), None),
        (
            'FCNHead',
            dict(in_channels=2048, in_index=3),
            'in_channels=2048 for in_index=3, but {}: in_channels must be 512',
        ),
        (
            'FCNHead',
            dict(in_channels=512, in_index=4),
            'in_index=4, but {}: in_index must lie in -4…3',
        ),
        ('UPerHead', dict(in_channels=CHANNELS, in_index=[0, 1, 2, 3]), None),
        ('UPerHead', dict(in_channels=(128, 512), in_index=(1, 3)), None),
        (
            'UPerHead',
            dict(in_channels=(128, 512), in_index=(1, 2)),
            'in_channels=[128, 512] for in_index=(1, 2), but {}: in_channels must be '
            '[128, 256]',
        ),
        (
            'FCNHead',
            dict(in_channels=[64, 128], in_index=[0, 1], input_transform='resize_concat'),
            None,
        ),
        (
            'FCNHead',
            dict(in_channels=[64, 128], in_index=[0, 2], input_transform='resize_concat'),
            'sum(in_channels)=192 for in_index=[0, 2], but {}: sum(in_channels) must be '
            '320',
        ),
    ],
)
def test_heads_of_segmentors(type, arguments, problem):
    head = MODELS.build(
        dict(type=f'mmseg.{type}', channels=8, num_classes=3, **arguments)
    )
    model = Model(decode_head=head)
    assert takes(head, model.backbone) == (problem is None)
    expected = problem and f'model.decode_head has {problem.format(GIVEN)}'
    assert refusal(model) == expected


@pytest.mark.needs_mmcv_ops
def test_auxiliary_heads_of_a_segmentor():
    head = dict(type='mmseg.FCNHead', channels=8, num_classes=3)
    model = MODELS.build(
        dict(
            type='mmseg.EncoderDecoder',
            backbone=dict(type='mmdyn.ResNet', depth=18, out_indices=(0, 1, 2, 3)),
            decode_head=dict(in_channels=512, **head),
            auxiliary_head=[
                dict(in_channels=256, in_index=2, **head),
                dict(in_channels=1024, in_index=1, **head),
            ],
        )
    )
    assert refusal(model) == (
        f'model.auxiliary_head[1] has in_channels=1024 for in_index=1, but {GIVEN}: '
        f'in_channels must be 128'
    )
    del model.auxiliary_head[1]
    assert refusal(model) is None


@pytest.mark.needs_mmcv_ops
@pytest.mark.parametrize(
    ('neck', 'fits'),
    [
        (dict(type='FPN', in_channels=CHANNELS, num_outs=5), True),
        (dict(type='FPN', in_channels=[256, 512, 1024, 2048], num_outs=5), False),
        (dict(type='FPN', in_channels=CHANNELS[1:], num_outs=5), False),
        (dict(type='ChannelMapper', in_channels=CHANNELS), True),
        (dict(type='ChannelMapper', in_channels=[2048]), False),
        # Its list begins with the last map.
        (dict(type='YOLOV3Neck', num_scales=4, in_channels=CHANNELS[::-1]), True),
    ],
)
def test_necks_of_detectors(neck, fits):
    out_channels = CHANNELS[::-1] if neck['type'] == 'YOLOV3Neck' else 8
    neck = {**neck, 'type': f'mmdet.{neck["type"]}', 'out_channels': out_channels}
    model = Model(neck=MODELS.build(neck))
    assert takes(model.neck, model.backbone) == fits
    expected = (
        None
        if fits
        else (
            f'model.neck has in_channels={neck["in_channels"]}, but {GIVEN}: in_channels '
            f'must be {CHANNELS}'
        )
    )
    assert refusal(model) == expected


@pytest.mark.needs_mmcv_ops
def test_detector_with_the_channels_of_another_backbone():
    init_default_scope('mmdet')
    model = dict(
        type='mmdet.RetinaNet',
        backbone=dict(type='mmdyn.ResNet', depth=8, out_indices=(0, 1, 2)),
        neck=dict(
            type='mmdet.FPN', in_channels=[512, 1024, 2048], out_channels=8, num_outs=5
        ),
        bbox_head=dict(
            type='mmdet.RetinaHead', num_classes=2, in_channels=8, feat_channels=8
        ),
        test_cfg=dict(),
    )
    assert refusal(MODELS.build(copy.deepcopy(model))) == (
        'model.neck has in_channels=[512, 1024, 2048], but the ResNet gives (16, 32, '
        '64): in_channels must be [16, 32, 64]'
    )
    model['neck']['in_channels'] = [16, 32, 64]
    assert refusal(MODELS.build(model)) is None


def test_heads_behind_a_neck_are_left_alone():
    head = taking(9, in_index=9, input_transform=None)
    assert refusal(Model(decode_head=head)) is not None
    assert refusal(Model(decode_head=head, neck=nn.Identity())) is None


@pytest.mark.parametrize(
    'settings',
    [
        classifier(512, type='mmpretrain.ResNet', depth=18),
        pytest.param(  # which gives no maps on its own
            classifier(64, type='mmdyn.CNMM', samples=3), marks=needs('CNMM')
        ),
        pytest.param(
            {
                **classifier(64, type='mmdyn.ResNet', depth=8),
                'type': 'mmdyn.MultiExitClassifier',
                'exits': [dict(type='mmdyn.LinearExit', stage=1)],
            },
            marks=needs('MultiExitClassifier'),
        ),
    ],
)
def test_models_that_are_not_understood_are_left_alone(settings):
    model = MODELS.build(settings)
    model.head.in_channels = 99
    assert refusal(model) is None


@pytest.mark.parametrize(
    ('backbone', 'arguments'),
    [
        ('ResNet', dict(depth=18, frozen_stages=1)),
        pytest.param('SpatialResNet', dict(depth=8), marks=needs('SpatialResNet')),
        # It draws in inference, too.
        pytest.param('CNMM', dict(samples=1), marks=needs('CNMM')),
    ],
)
def test_state_stays_as_it_was(backbone, arguments, monkeypatch):
    timed = []
    if backbone == 'SpatialResNet':
        from mmdyn.methods.spatial import block

        monkeypatch.setattr(block, 'break_even_share', timed.append)
    backbone = MODELS.build(dict(type=f'mmdyn.{backbone}', **arguments))
    model = Model(backbone, head=taking(99)).train()
    next(model.backbone.children()).eval()  # by hand: train() would not leave it so
    modes = [module.training for module in model.modules()]
    state = copy.deepcopy(model.state_dict())
    generator = torch.get_rng_state()
    assert refusal(model) is not None
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(
        torch.equal(value, state[key]) for key, value in model.state_dict().items()
    )
    assert timed == []


def test_runner_is_refused(tmp_path, mmpretrain_scope):
    model = classifier(64, type='mmdyn.ResNet', depth=8)
    work = dict(work_dir=str(tmp_path), launcher='none', default_scope='mmpretrain')
    cfg = Config(dict(model=model, **work))
    build_runner(cfg)
    cfg.model.head.in_channels = 16
    with pytest.raises(ValueError, match='in_channels=16, but the ResNet gives .64,.'):
        build_runner(cfg)
