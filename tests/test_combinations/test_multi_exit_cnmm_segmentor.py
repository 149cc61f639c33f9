"""Early exits of an mmseg segmentor."""

import pytest
import torch
from helpers.cnmm_reference import analytic_macs
from helpers.reference import randomize_norms
from helpers.rooms import needs
from mmengine.config import ConfigDict
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from mmdyn import OperatingPoint, at_operating_point, count_macs, operating_points
from mmdyn.evaluation.cost import CostMeter
from mmdyn.methods.cnmm.graph import live_functions
from mmdyn.methods.multi_exit.policies import confidence
from mmdyn.models.stages import cut_into_stages

pytestmark = pytest.mark.needs_mmcv_ops

CLASSES = 4
CNMM = dict(
    type='mmdyn.CNMM',
    scales=(0, 0, 1, 1, 0, 1),
    channels=(4, 6),
    out_indices=(2, 3, 5),
)
RESNET = dict(type='mmdyn.ResNet', depth=8, out_indices=(0, 1, 2))


@pytest.fixture(autouse=True)
def mmseg_scope():
    from mmseg.utils import register_all_modules  # imports mmcv's operators

    register_all_modules(init_default_scope=True)


def head(in_channels, **kwargs):
    return dict(
        type='FCNHead',
        in_channels=in_channels,
        channels=8,
        num_convs=1,
        num_classes=CLASSES,
        norm_cfg=dict(type='BN'),
        loss_decode=dict(type='CrossEntropyLoss'),
        **kwargs,
    )


def build(backbone, decode_head, exits, **kwargs):
    model = dict(
        type='mmdyn.MultiExitEncoderDecoder',
        backbone=backbone,
        decode_head=decode_head,
        exits=exits,
        train_cfg=dict(),
        test_cfg=dict(mode='whole'),
        **kwargs,
    )
    model = MODELS.build(ConfigDict(model))
    randomize_norms(model)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout2d):
            module.p = 0.0
    return model.eval()


def own_heads():
    return build(
        CNMM, head(6), [dict(stage=1, head=head(6)), dict(stage=2, head=head(6))]
    )


def shared_head():
    return build(CNMM, head(6), [dict(stage=1), dict(stage=2)])


def resnet():
    exits = [dict(stage=2, head=head(32))]
    return build(RESNET, head(64, in_index=2), exits, auxiliary_head=head(16, in_index=0))


def samples(number, size=16):
    made = []
    for _ in range(number):
        sample = SegDataSample()
        sample.gt_sem_seg = PixelData(data=torch.randint(0, CLASSES, (1, size, size)))
        sample.set_metainfo(
            dict(img_shape=(size, size), ori_shape=(size, size), pad_shape=(size, size))
        )
        made.append(sample)
    return made


@pytest.mark.parametrize('make', [own_heads, shared_head])
@pytest.mark.parametrize('exit', [1, 2, 3])
def test_an_exit_runs_its_functions_and_its_head(make, exit):
    model, images = make(), torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        features = model.backbone(images)[exit - 1]
        used = model.decode_head
        if exit < 3 and make is own_heads:
            used = model.exits[exit - 1]
        expected = used([None] * 4 + [features])
        with at_operating_point(model, f'exit={exit}'):
            assert torch.allclose(model(images), expected, atol=1e-5)
            macs = count_macs(model, (3, 16, 16))
    node = model.backbone.out_indices[exit - 1]
    functions = live_functions(model.backbone.functions, [node])
    # 8×8 features: a 3×3 convolution, one on its output and input, the classifier
    head_macs = 64 * (9 * 6 * 8 + 9 * (6 + 8) * 8 + 8 * CLASSES)
    assert macs == analytic_macs(model.backbone, functions, 16, 16) + head_macs


def test_a_trunk_stops_behind_the_exit():
    model, images = resnet(), torch.rand(2, 3, 16, 16)
    assert [p.name for p in operating_points(model)] == ['exit=1', 'exit=2']
    with torch.no_grad():
        features = model.backbone(images)
        with at_operating_point(model, 'exit=1'):
            expected = model.exits[0]([None, features[1]])
            assert torch.allclose(model(images), expected, atol=1e-5)
            early = count_macs(model, (3, 16, 16))
        assert torch.allclose(model(images), model.decode_head(features), atol=1e-5)
        assert early < count_macs(model, (3, 16, 16))


@pytest.mark.parametrize('make', [own_heads, shared_head, resnet])
def test_losses_of_all_exits(make):
    model = make().train()
    images, truth = torch.rand(2, 3, 16, 16), samples(2)
    torch.manual_seed(1)
    losses = model.loss(images, truth)
    early = {f'exit{i}.loss_ce' for i in range(1, model.num_exits)}
    wanted = {'decode.loss_ce', *early} | ({'aux.loss_ce'} if make is resnet else set())
    assert {name for name in losses if 'loss' in name} == wanted
    sum(losses[name] for name in wanted).backward()
    assert all(p.grad is not None for p in model.parameters())


def test_losses_are_those_of_the_heads():
    model = own_heads().train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    images, truth = torch.rand(2, 3, 16, 16), samples(2)
    torch.manual_seed(1)
    losses = model.loss(images, truth)
    torch.manual_seed(1)
    features = model.backbone(images)
    for exit, name in enumerate(['exit1', 'exit2', 'decode']):
        expected = model.head_at(exit).loss([features[exit]], truth, None)['loss_ce']
        assert torch.allclose(losses[f'{name}.loss_ce'], expected, atol=1e-5)


def test_predictions_average_draws():
    cnmm = dict(CNMM, samples=3)
    model = build(cnmm, head(6), [dict(stage=1), dict(stage=2)])
    torch.nn.init.normal_(model.backbone.gamma)
    images, truth = torch.rand(2, 3, 16, 16), samples(2)
    torch.manual_seed(1)
    with torch.no_grad():
        found = [p.seg_logits.data.softmax(0) for p in model.predict(images, truth)]
        torch.manual_seed(1)
        model.backbone.samples = 1
        draws = [
            torch.stack(
                [p.seg_logits.data.softmax(0) for p in model.predict(images, truth)]
            )
            for _ in range(3)
        ]
    assert torch.allclose(torch.stack(found), sum(draws) / 3, atol=1e-5)


def test_binary_predictions_average_draws():
    binary = dict(
        head(6),
        num_classes=2,
        out_channels=1,
        threshold=0.3,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=True),
    )
    early = {k: v for k, v in binary.items() if k not in ('num_classes', 'out_channels')}
    model = build(dict(CNMM, samples=3), binary, [dict(stage=1, head=early)])
    torch.nn.init.normal_(model.backbone.gamma)
    images, truth = torch.rand(2, 3, 16, 16), samples(2)
    for point in ('exit=1', 'exit=2'):
        with torch.no_grad(), at_operating_point(model, point):
            model.backbone.samples = 3
            torch.manual_seed(1)
            found = torch.stack([p.seg_logits.data for p in model.predict(images, truth)])
            torch.manual_seed(1)
            model.backbone.samples = 1
            draws = [
                torch.stack([p.seg_logits.data for p in model.predict(images, truth)])
                for _ in range(3)
            ]
        # mmseg writes the probabilities of a head with one channel.
        expected = sum(d.sigmoid() for d in draws) / 3
        assert torch.allclose(found.sigmoid(), expected, atol=1e-5)


THRESHOLDS = (0.4, 0.5)


def adaptive(thresholds, **kwargs):
    """Three exits whose answers differ in confidence from image to image."""
    model = build(
        RESNET,
        head(64),
        [dict(stage=1, head=head(16)), dict(stage=2, head=head(32))],
        policy=dict(type='mmdyn.ConfidencePolicy', thresholds=dict(some=thresholds)),
        **kwargs,
    )
    for exit in range(3):
        # Untrained heads are never sure of anything.
        torch.nn.init.normal_(model.head_at(exit).conv_seg.weight, std=0.3)
    return model


def exit_by_hand(model, image, thresholds):
    """The exit at which one image leaves, from maps of class probabilities."""
    for number, threshold in enumerate(thresholds, 1):
        with at_operating_point(model, f'exit={number}'):
            logits = model(image[None])[0]
        best = [max(pixel) for pixel in logits.softmax(0).flatten(1).T.tolist()]
        if sum(best) / len(best) >= threshold:
            return number
    return len(thresholds) + 1


def mixed_images(number):
    """Images of very different contrast."""
    return (
        torch.randn(number, 3, 16, 16)
        * torch.logspace(-2, 1, number)[:, None, None, None]
    )


@torch.no_grad()
def spread_thresholds(model, images):
    """Thresholds that send about a third of the images to each exit."""
    confidences = []
    for exit in (1, 2):
        with at_operating_point(model, f'exit={exit}'):
            confidences.append(confidence(model(images)).sort().values)
    third = len(images) // 3
    return confidences[0][-third].item() - 1e-4, confidences[1][-2 * third].item() - 1e-4


def with_thresholds(model, thresholds):
    model.offer_points([OperatingPoint('found', dict(thresholds=thresholds))])
    return model


@torch.no_grad()
def test_images_leave_where_they_are_confident():
    model, images = adaptive(THRESHOLDS), mixed_images(9)
    thresholds = spread_thresholds(model, images)
    with_thresholds(model, thresholds)
    wanted = [exit_by_hand(model, image, thresholds) for image in images]
    assert set(wanted) == {1, 2, 3}
    with at_operating_point(model, 'found'):
        found = model.predict(images, samples(9))
    assert [prediction.exit_index for prediction in found] == wanted
    for number in (1, 2, 3):
        with at_operating_point(model, f'exit={number}'):
            fixed = model.predict(images, samples(9))
        for prediction, other, exit in zip(found, fixed, wanted):
            if exit == number:
                logits, expected = prediction.seg_logits.data, other.seg_logits.data
                assert torch.allclose(logits, expected, atol=1e-4)


@torch.no_grad()
def test_what_left_costs_nothing_more():
    """The executed cost of a batch is that of its images' exits, heads included."""
    model, images = adaptive(THRESHOLDS), mixed_images(9)
    thresholds = spread_thresholds(model, images)
    with_thresholds(model, thresholds)
    to_exit = []
    for number in (1, 2, 3):
        with at_operating_point(model, f'exit={number}'):
            to_exit.append(count_macs(model, (3, 16, 16)))
    # Convolutions of 8 channels on the features and their output, and the classifier.
    heads = [
        side**2 * (9 * width * 8 + 9 * (width + 8) * 8 + 8 * CLASSES)
        for side, width in ((16, 16), (8, 32), (4, 64))
    ]
    costs = [
        to_exit[0],
        to_exit[1] + heads[0],
        to_exit[2] + heads[0] + heads[1],
    ]
    wanted = [exit_by_hand(model, image, thresholds) for image in images]
    meter = CostMeter()
    with at_operating_point(model, 'found'), meter:
        model.predict(images, samples(9))
    assert meter.macs == sum(costs[exit - 1] for exit in wanted)


@torch.no_grad()
def test_windows_leave_one_by_one():
    slide = dict(mode='slide', crop_size=(16, 16), stride=(16, 16))
    model = adaptive(THRESHOLDS)
    model.test_cfg = ConfigDict(slide)
    windows = mixed_images(9)[[0, 8, 3, 5]]
    thresholds = spread_thresholds(model, mixed_images(9))
    with_thresholds(model, thresholds)
    wanted = [exit_by_hand(model, window, thresholds) for window in windows]
    assert len(set(wanted)) > 1
    rows = [torch.cat(list(windows[i : i + 2]), dim=2) for i in (0, 2)]
    image = torch.cat(rows, dim=1)
    with at_operating_point(model, 'found'):
        (prediction,) = model.predict(image[None], samples(1, size=32))
    assert prediction.exit_index == wanted


def test_a_binary_head_is_confident_of_either_class():
    logits = torch.tensor([[-3.0, 3.0], [0.0, 1.0]])[:, None, None]  # N, 1, 1, W
    expected = [0.9526, (0.5 + 0.7311) / 2]
    assert confidence(logits).tolist() == pytest.approx(expected, abs=1e-4)


def test_heads_of_decreasing_complexity():
    plain = {k: v for k, v in head(0).items() if k not in ('num_convs', 'in_channels')}
    model = build(RESNET, head(64), dict(head=plain, levels=(3, 1)))
    assert model.exit_stages == (1, 2, 3)
    assert [len(exit.convs) for exit in model.exits] == [3, 1]
    assert [exit.in_channels for exit in model.exits] == [16, 32]


@pytest.mark.parametrize('version', ['ResNet', 'ResNetV1c', 'ResNetV1d'])
@pytest.mark.parametrize('depth', [18, 50])
def test_stock_backbones_of_mmseg_can_be_cut(version, depth):
    backbone = MODELS.build(
        dict(
            type=version,
            depth=depth,
            base_channels=8,
            strides=(1, 2, 1, 1),
            dilations=(1, 1, 2, 4),
        )
    )
    backbone.eval()  # which returns nothing there
    images = torch.rand(1, 3, 32, 48)
    with torch.no_grad():
        expected, x = backbone(images), images
        for stage, features in zip(cut_into_stages(backbone), expected):
            x = stage.forward(x)
            assert torch.equal(x, features)
            assert stage.out_channels == features.shape[1]
            assert stage.stride == 32 // features.shape[2]


def test_the_decode_head_answers_last_for_the_last_exit():
    """A hook that watches it, say for distillation, is left with the whole network's."""
    model = shared_head().train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    seen = []
    watched = model.decode_head.conv_seg
    watched.register_forward_hook(lambda conv, inputs, logits: seen.append(logits))
    images, truth = torch.rand(2, 3, 16, 16), samples(2)
    torch.manual_seed(1)
    model.loss(images, truth)
    assert len(seen) == 3
    torch.manual_seed(1)
    features = model.backbone(images)
    expected = model.decode_head.forward([None, None, features[-1]])
    assert torch.allclose(seen[2], expected, atol=1e-5)


@needs('LearnedGatePolicy')
def test_a_policy_of_classifiers_is_refused():
    gates = dict(type='mmdyn.LearnedGatePolicy')
    with pytest.raises(ValueError, match='must be a mmdyn.ConfidencePolicy, got a Lear'):
        build(RESNET, head(64), [dict(stage=1, head=head(16))], policy=gates)


@pytest.mark.parametrize(
    ('backbone', 'decode_head', 'exits', 'message'),
    [
        (
            RESNET,
            head(64),
            [dict(stage=1)],
            r'exit 1 has in_channels=64, but stage 1 .*16',
        ),
        (RESNET, head(32), [dict(stage=1, head=head(16))], 'exit 2 has in_channels=32'),
        (
            RESNET,
            head(64, in_index=3),
            [dict(stage=1, head=head(16))],
            r'exit 2 has in_index=3, .* must be -1 or 2',
        ),
        (
            CNMM,
            head(6),
            [dict(stage=1, head=dict(head(6), num_classes=7, out_channels=7))],
            'exit 1 has num_classes=7 and out_channels=7, the decode head 4 and 4',
        ),
        (CNMM, head(6), [dict(stage=3)], r"a rising 'stage' in 1…2"),
        (CNMM, head(6), [], 'at least one exit'),
        (CNMM, head(6), [dict(stage=1, heads=2)], r"a 'stage', a 'head' .*got .*heads"),
        (CNMM, head(6), dict(levels=(3, 2, 1)), 'at most 2 behind the 3 stages'),
        (
            RESNET,
            head(64),
            dict(levels=(2,), head=dict(type='ASPPHead', channels=8)),
            'num_convs of an FCNHead, which a ASPPHead',
        ),
        (
            RESNET,
            dict(
                type='UPerHead',
                in_channels=[16, 32],
                in_index=[0, 1],
                channels=8,
                num_classes=CLASSES,
            ),
            [dict(stage=1, head=head(16))],
            'exit 2, a UPerHead, must be an mmseg head that takes one map',
        ),
    ],
)
def test_refusals(backbone, decode_head, exits, message):
    with pytest.raises(ValueError, match=message):
        build(backbone, decode_head, exits)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (
            dict(in_channels=99, in_index=0),
            r'in_channels=99 for in_index=0, .*\[16, 32, 64',
        ),
        (dict(in_channels=16, in_index=3), r'in_index=3, .* in_index must lie in -3…2'),
    ],
)
def test_auxiliary_heads_are_checked(changes, message):
    auxiliary = {**head(0), **changes}
    exits = [dict(stage=1, head=head(16))]
    for heads in (auxiliary, [head(16, in_index=0), auxiliary]):
        with pytest.raises(ValueError, match=message):
            build(RESNET, head(64), exits, auxiliary_head=heads)
