import copy
import math

import numpy as np
import pytest
import torch
from helpers.configs import paper
from helpers.reference import outputs_of
from mmpretrain.models.backbones import T2T_ViT
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch import nn

from mmdyn import CostMeter, at_operating_point, count_macs
from mmdyn.methods.jei.t2t_vit import T2TViT
from mmdyn.methods.jei.token_performer import (
    TokenPerformer,
    linear_attention,
    positive_random_features,
)
from mmdyn.methods.multi_exit.policies import ConfidencePolicy
from mmdyn.models.stages import cut_into_stages

ARCH = dict(embed_dims=24, num_layers=3, num_heads=4, feedforward_channels=40)
# Regol et al., Tables 2 and 3: millions of Mul-Adds up to each exit.
REGOL_ET_AL = {arch: paper('jei')[f't2t-vit-{arch}']['macs'] for arch in ('7', '14')}


def small(size=32, channels=1, **changes):
    """Small, with weights as after training: large enough for images to differ."""
    model = T2TViT(ARCH, img_size=size, in_channels=channels, token_dims=8, **changes)
    for parameter in model.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.3 if parameter.dim() > 1 else 1)
    return model


# The performer layer.


def norm_by_hand(x, norm):
    x = (x - x.mean()) / math.sqrt(x.var() + norm.eps)
    return x * norm.weight.numpy() + norm.bias.numpy()


def linear_by_hand(x, linear):
    return linear.weight.numpy() @ x + linear.bias.numpy()


@torch.no_grad()
def performer_by_hand(layer, tokens):
    """One image's tokens (L, C) through the layer, a query and a key at a time."""
    channels, w = layer.proj.in_features, layer.w.numpy()
    kqv = [linear_by_hand(norm_by_hand(x, layer.norm1), layer.kqv) for x in tokens]
    outputs = []
    for token in kqv:
        query = token[channels : 2 * channels]
        total, weights = np.zeros(channels), 0.0
        for other in kqv:
            key, value = other[:channels], other[2 * channels :]
            # Yuan et al. (T2T-ViT); Choromanski et al., Lemma 1.
            exponents = [
                row @ (query + key) - (query @ query + key @ key) / 2 for row in w
            ]
            kernel = sum(map(math.exp, exponents)) / len(w)
            total, weights = total + kernel * value, weights + kernel
        mean = total / (weights + 1e-8)
        x = token[2 * channels :] + linear_by_hand(mean, layer.proj)
        hidden = linear_by_hand(norm_by_hand(x, layer.norm2), layer.mlp[0])
        hidden = np.array([h * (1 + math.erf(h / math.sqrt(2))) / 2 for h in hidden])
        outputs.append(x + linear_by_hand(hidden, layer.mlp[2]))
    return torch.from_numpy(np.stack(outputs))


@pytest.mark.parametrize(
    ('inputs', 'channels', 'tokens'), [(5, 8, 7), (12, 3, 1), (3, 10, 20)]
)
def test_performer_by_hand(inputs, channels, tokens):
    layer = TokenPerformer(inputs, channels).double().eval()
    for parameter in layer.parameters():
        if parameter is not layer.w:
            nn.init.normal_(parameter, std=0.5)
    x = torch.randn(3, tokens, inputs, dtype=torch.float64)
    with torch.no_grad():
        got = layer(x)
    assert got.shape == (3, tokens, channels)
    expected = torch.stack([performer_by_hand(layer, image.numpy()) for image in x])
    # The attention itself is in single precision.
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def five_errors(mean_of_squares, mean, rows):
    """Five standard errors of the mean over some rows."""
    return 5 * math.sqrt((mean_of_squares - mean**2) / rows)


def test_features_average_to_the_exponential_of_products():
    """Choromanski et al., Lemma 1, for rows of a standard normal distribution."""
    q, k = 0.5 * torch.randn(2, 1, 9, 4, dtype=torch.float64)
    w = torch.randn(100_000, 4, dtype=torch.float64)
    features = positive_random_features(q, w), positive_random_features(k, w)
    assert all((f > 0).all() for f in features)
    kernel = (features[0] @ features[1].transpose(1, 2))[0]
    for query, row in zip(q[0], kernel):
        for key, got in zip(k[0], row):
            product, square = query @ key, (query + key).square().sum()
            mean = math.exp(product)
            error = five_errors(math.exp(2 * product + square), mean, len(w))
            assert got.item() == pytest.approx(mean, rel=0, abs=error)


def mean_exponential(channels, square):
    """Mean of exp(w·x), |x|² being ``square``, over all w of length 1: 0F1."""
    z = square / 4
    return sum(
        z**n / math.factorial(n) / math.prod(channels / 2 + i for i in range(n))
        for n in range(60)
    )


def test_the_layers_own_kernel():
    """Of rows of length √m with no preferred direction, in the width of T2T-ViT."""
    layers = [TokenPerformer(1, 64) for _ in range(300)]
    w = torch.cat([layer.w.detach() for layer in layers])  # the mean of their kernels
    q, k = 0.15 * torch.randn(2, 1, 8, 64)
    features = positive_random_features(q, w), positive_random_features(k, w)
    kernel = (features[0] @ features[1].transpose(1, 2))[0]
    for query, row in zip(q[0], kernel):
        for key, got in zip(k[0], row):
            square = 32 * (query + key).square().sum().item()
            half_squares = (query.square() + key.square()).sum().item() / 2
            mean = mean_exponential(64, square) * math.exp(-half_squares)
            of_squares = mean_exponential(64, 4 * square) * math.exp(-2 * half_squares)
            error = five_errors(of_squares, mean, len(w))
            assert got.item() == pytest.approx(mean, rel=0, abs=error)
            # What the docstring says it is near.
            gaussian = math.exp(-(query - key).square().sum().item() / 4)
            assert mean == pytest.approx(gaussian, rel=0.05)


def test_rows_are_orthogonal():
    w = TokenPerformer(3, 20).w
    torch.testing.assert_close(w @ w.T, 10 * torch.eye(10), rtol=0, atol=1e-5)


def test_attention_is_in_single_precision_under_autocast():
    layer, seen = TokenPerformer(6, 8).eval(), {}
    layer.kqv.register_forward_hook(lambda *a: seen.update(kqv=a[2]))
    layer.proj.register_forward_pre_hook(lambda *a: seen.update(mean=a[1][0]))
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        y = layer(3 * torch.randn(2, 50, 6))
    k, q, v = seen['kqv'].float().split(8, dim=2)
    expected = linear_attention(q, k, v, layer.w.detach())
    assert seen['kqv'].dtype == torch.bfloat16 and y.isfinite().all()
    assert torch.equal(seen['mean'], expected.to(torch.bfloat16))


def test_attention_to_far_apart_tokens_is_finite():
    q, k, v = 40 * torch.randn(3, 1, 30, 8)
    assert linear_attention(q, k, v, TokenPerformer(1, 8).w.detach()).isfinite().all()


# The backbone.


def layer_norm_products(model, counts):
    """Count 5 Mul-Adds for each number that goes through a layer norm."""
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.register_forward_hook(lambda *a: counts.append(5 * a[2].numel()))


@pytest.mark.parametrize(
    ('arch', 'first', 'step', 'total'),
    [('7', 407.6, 123.1, 1146), ('14', 619.3, 320.3, 4783)],
)
def test_macs_of_the_exits_of_jei_dnn(arch, first, step, total):
    model = T2TViT(arch)
    model.eval()
    norms, meter, x, ends, with_norms = (
        [],
        CostMeter(),
        torch.rand(1, 3, 224, 224),
        [],
        [],
    )
    layer_norm_products(model, norms)
    stages = cut_into_stages(model)
    for number, stage in enumerate(stages, start=1):
        with torch.no_grad(), meter:
            x = stage.forward(x)
        ends.append(meter.macs / 1e6)
        # The paper has the norm of all tokens at each exit; here it is the class token's,
        # but for the last, where it is part of the stage.
        at_exits = min(number, len(stages) - 1) * 5 * x.numel()
        with_norms.append(ends[-1] + (sum(norms) + at_exits) / 1e6)
    printed = REGOL_ET_AL[arch]
    assert len(ends) == len(printed) == int(arch)
    assert ends == pytest.approx(printed, rel=0.02)
    for ours, theirs in zip(with_norms, printed):  # to the last of four digits
        assert ours == pytest.approx(theirs, abs=0.06 if theirs < 1000 else 0.6)
    assert ends[0] == pytest.approx(first, rel=0.005)
    assert np.diff(ends) == pytest.approx([step] * (int(arch) - 1), rel=0.005)
    assert ends[-1] == pytest.approx(total, rel=0.005)
    assert count_macs(model, (3, 224, 224)) / 1e6 == ends[-1]


@pytest.mark.parametrize(
    ('arch', 'millions'),
    # github.com/yitu-opensource/T2T-ViT: for 1000 classes, position embedding included.
    [('7', 4.3), ('10', 5.9), ('12', 6.9), ('14', 21.5), ('19', 39.2), ('24', 64.1)],
)
def test_parameters_of_the_published_networks(arch, millions):
    model = T2TViT(arch)
    width = model.cls_token.shape[2]
    parameters = sum(p.numel() for p in model.parameters()) + model.pos_embed.numel()
    assert (parameters + 1001 * width) / 1e6 == pytest.approx(millions, abs=0.05)
    assert {layer.attn.head_dims for layer in model.encoder} == {64}


@torch.no_grad()
def test_attention_divides_by_the_root_of_the_heads_channels():
    """mmpretrain 1.2 multiplies by it."""
    attention = small().encoder[0].attn.eval()
    x = torch.randn(1, 7, 24)
    expected = torch.zeros(7, 24)
    q, k, v = attention.qkv(x)[0].split(24, dim=1)
    for head in range(4):
        own = slice(6 * head, 6 * head + 6)
        for token in range(7):
            products = torch.stack([q[token, own] @ key[own] for key in k])
            weights = (products / math.sqrt(6)).exp()
            expected[token, own] = (weights @ v[:, own]) / weights.sum()
    expected = attention.proj(expected)
    torch.testing.assert_close(attention(x)[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ('size', 'side'), [(16, 1), (28, 2), (32, 2), (40, 3), (48, 3), (64, 4)]
)
def test_small_images(size, side):
    model = small(size)
    images = torch.rand(2, 1, size, size)
    (features,) = outputs_of(model, images)
    assert features.shape == (2, 24) and features.isfinite().all()
    assert not torch.allclose(*features, atol=1e-3)
    tokens = cut_into_stages(model)[0].forward(images)
    assert tokens.shape == (2, 1 + side**2, 24)


def test_weights_of_larger_images_load():
    large, other = small(64), small(32)
    other.load_state_dict(large.state_dict())
    image = torch.rand(2, 1, 32, 32)
    # On small images the large one resizes its position embedding in the same way.
    torch.testing.assert_close(outputs_of(other, image), outputs_of(large, image))


def test_training_reaches_all_weights_but_the_random_rows():
    model = small(drop_path_rate=0.0)
    model.train()
    model(torch.rand(4, 1, 32, 32))[-1].square().mean().backward()
    without = {n for n, p in model.named_parameters() if p.grad is None}
    assert without == {f'tokens_to_token.attention{i}.w' for i in (1, 2)}
    zero = [
        n for n, p in model.named_parameters() if p.grad is not None and not p.grad.any()
    ]
    assert not zero


def test_initial_weights():
    model = T2TViT('7')
    rows = model.tokens_to_token.attention1.w.clone()
    model.init_weights()
    for name, parameter in model.named_parameters():
        if name.endswith('.w'):
            continue
        if 'norm' in name or '.ln' in name:
            assert (parameter == (1 if name.endswith('weight') else 0)).all(), name
        elif name.endswith('bias'):
            assert not parameter.any(), name
        else:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.15), name
    assert torch.equal(model.tokens_to_token.attention1.w, rows)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(arch='8'), r"arch must be one of \('7', '10', .*'24'\), got '8'"),
        (dict(arch=7), "arch must be one of .*'24'.*, got 7"),
        (dict(arch=dict(embed_dims=8)), "needs the keys .*'num_layers'.*'embed_dims'"),
        (dict(arch={**ARCH, 'num_layers': 0}), 'num_layers must be a whole .* got 0'),
        (dict(arch={**ARCH, 'num_heads': 5}), 'multiple of num_heads, got 24 and 5'),
        (dict(arch='7', img_size=8), 'img_size must be 16 or more, .* got 8'),
        (dict(arch='7', in_channels=0), 'in_channels must be a whole .* got 0'),
        (dict(arch='7', token_dims=1), 'embed_dims must be 2 or more, got 1'),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(ValueError, match=message):
        T2TViT(**arguments)


# Its stages.


def stock(**changes):
    arguments = dict(img_size=32, embed_dims=24, num_layers=3, t2t_cfg=dict(token_dims=8))
    return T2T_ViT(in_channels=1, layer_cfgs=dict(num_heads=4), **arguments, **changes)


STAGED = {
    'ours': small,
    'ours, resized': lambda: small(64),
    'stock': stock,
    'stock, no norm': lambda: stock(final_norm=False),
}


@pytest.mark.parametrize('name', STAGED)
def test_stages_in_a_row_are_the_backbone(name):
    backbone = STAGED[name]()
    images, behind = torch.rand(2, 1, 32, 32), []
    for layer in backbone.encoder:
        layer.register_forward_hook(lambda *a: behind.append(a[2]))
    expected = outputs_of(backbone, images)[-1]
    layers = copy.copy(behind)
    stages, x = cut_into_stages(backbone), images
    assert len(stages) == len(layers) == 3
    with torch.no_grad():
        for stage, tokens in zip(stages, layers):
            x = stage.forward(x)
            features = stage.features(x)
            torch.testing.assert_close(features, backbone.norm(tokens)[:, 0])
            assert (features.shape[1], stage.out_channels, stage.stride) == (24, 24, 16)
    assert torch.equal(features, expected)


@pytest.mark.parametrize('build', [small, stock])
def test_stages_train_what_the_backbone_trains(build):
    backbone = build(drop_rate=0.2, drop_path_rate=0.3)
    backbone.train()
    images, gradients = torch.rand(4, 1, 32, 32), []
    for in_stages in (False, True):
        torch.manual_seed(0)
        x = images
        if in_stages:
            stages = cut_into_stages(backbone)
            for stage in stages:
                x = stage.forward(x)
            x = stages[-1].features(x)
        else:
            x = backbone(x)[-1]
        backbone.zero_grad()
        x.square().mean().backward()
        gradients.append([p.grad for p in backbone.parameters() if p.requires_grad])
    torch.testing.assert_close(*gradients)


def test_other_outputs_are_not_cut():
    message = "T2T_ViT is cut with out_type='cls_token' only, got 'featmap'"
    with pytest.raises(ValueError, match=message):
        cut_into_stages(stock(out_type='featmap'))


# Exits along it.


@pytest.fixture
def classifier(mmpretrain_scope):
    model = MODELS.build(
        dict(
            type='mmdyn.MultiExitClassifier',
            backbone=dict(
                type='mmdyn.T2TViT', arch=ARCH, img_size=32, in_channels=1, token_dims=8
            ),
            head=dict(type='LinearClsHead', num_classes=10, in_channels=24),
            exits=[dict(type='mmdyn.LinearExit', stage=stage) for stage in (1, 2)],
            policy=dict(type='mmdyn.ConfidencePolicy', thresholds=0.5),
        )
    )
    model.backbone.load_state_dict(small().state_dict())
    for fc in (*(exit.fc for exit in model.exits), model.head.fc):
        nn.init.normal_(fc.weight, std=0.5)
    return model.eval()


@torch.no_grad()
def logits_by_hand(model, image):
    """Logits of every exit for one image, from what its layers give."""
    behind, backbone = [], model.backbone
    hooks = [
        layer.register_forward_hook(lambda *a: behind.append(a[2]))
        for layer in backbone.encoder
    ]
    backbone(image[None])
    for hook in hooks:
        hook.remove()
    tokens = [backbone.norm(each)[0, 0] for each in behind]
    layers = (model.exits[0].fc, model.exits[1].fc, model.head.fc)
    return [fc(token) for fc, token in zip(layers, tokens)]


def test_exits_against_one_image_at_a_time(classifier):
    images = torch.randn(40, 1, 32, 32) * torch.rand(40, 1, 1, 1) * 3
    by_hand = [logits_by_hand(classifier, image) for image in images]
    for exit in (1, 2, 3):
        with torch.no_grad(), at_operating_point(classifier, f'exit={exit}'):
            logits, exits = classifier.infer(images)
        assert exits.tolist() == [exit] * 40
        expected = torch.stack([hand[exit - 1] for hand in by_hand])
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)

    sure = [[each.softmax(0).max().item() for each in hand] for hand in by_hand]
    first = between(c[0] for c in sure)
    second = between(c[1] for c in sure if c[0] < first)
    classifier.policy = ConfidencePolicy(3, dict(halves=(first, second)))
    with torch.no_grad(), at_operating_point(classifier, 'halves'):
        logits, exits = classifier.infer(images)
    expected = [1 if c[0] >= first else 2 if c[1] >= second else 3 for c in sure]
    assert exits.tolist() == expected
    assert [expected.count(exit) for exit in (1, 2, 3)] == [20, 10, 10]
    expected = torch.stack([hand[e - 1] for hand, e in zip(by_hand, expected)])
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


def between(values):
    """A number halfway between the two middle ones, so that rounding decides nothing."""
    values = sorted(values)
    middle = len(values) // 2
    assert values[middle] - values[middle - 1] > 1e-5
    return (values[middle - 1] + values[middle]) / 2


def test_all_exits_train(classifier):
    classifier.train()
    samples = [DataSample().set_gt_label(i % 10) for i in range(4)]
    losses = classifier.loss(torch.rand(4, 1, 32, 32), samples)
    assert set(losses) == {f'exit{i}.loss' for i in (1, 2, 3)}
    sum(losses.values()).backward()
    without = {n for n, p in classifier.named_parameters() if p.grad is None}
    assert without == {f'backbone.tokens_to_token.attention{i}.w' for i in (1, 2)}


@pytest.mark.parametrize(
    ('arch', 'classes', 'macs'), [('7', 10, 2560), ('14', 100, 38400)]
)
def test_macs_of_the_exits_alone(arch, classes, macs, mmpretrain_scope):
    """Regol et al., Tables 2 and 3: 2570 and 38.5K, with one addition for each class."""
    layers = int(arch)
    backbone = dict(type='mmdyn.T2TViT', arch=arch, img_size=16)
    width = T2TViT.arch_settings[arch]['embed_dims']
    model = MODELS.build(
        dict(
            type='mmdyn.MultiExitClassifier',
            backbone=backbone,
            head=dict(type='LinearClsHead', num_classes=classes, in_channels=width),
            exits=[dict(type='mmdyn.LinearExit', stage=i) for i in range(1, layers)],
            # No sample exits early: all exits are computed.
            policy=dict(type='mmdyn.ConfidencePolicy', thresholds=1.0),
        )
    )
    shape, without = (3, 16, 16), count_macs(model.backbone, (3, 16, 16))
    with at_operating_point(model, f'exit={layers}'):
        assert count_macs(model, shape) == without + macs
    with at_operating_point(model, 'adaptive'):
        assert count_macs(model, shape) == without + layers * macs


@pytest.mark.parametrize('channels', [1, 3])
def test_tools_know_what_images_it_takes(channels):
    from mmdyn.engine.build import image_channels

    assert image_channels(T2TViT('7', img_size=32, in_channels=channels)) == channels
