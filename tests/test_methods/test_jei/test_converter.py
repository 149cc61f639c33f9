"""Weights of the authors' T2T-ViT, converted, against what they give in their forward."""

import math
import runpy

import pytest
import torch
from helpers.reference import outputs_of
from helpers.tools import ROOT, run_tool
from mmengine.runner import load_checkpoint
from mmpretrain.registry import MODELS
from torch.nn import functional

from mmdyn import at_operating_point

TOOL = 'tools/model_converters/t2t_vit.py'
FUNCTIONS = runpy.run_path(str(ROOT / TOOL))
WIDTH, LAYERS, HEADS, TOKENS, CLASSES, SIZE = 24, 3, 4, 10, 5, 32


def their_weights():
    """Random weights by the authors' names; norms and biases not 1 and 0."""
    shapes = {'cls_token': (1, 1, WIDTH), 'pos_embed': (1, 5, WIDTH)}

    def affine(name, *shape):
        shapes[f'{name}.weight'] = shape
        shapes[f'{name}.bias'] = shape[:1]

    for name, inputs in (('attention1', 49 * 3), ('attention2', 9 * TOKENS)):
        name = f'tokens_to_token.{name}'
        shapes[f'{name}.w'] = (TOKENS // 2, TOKENS)
        affine(f'{name}.kqv', 3 * TOKENS, inputs)
        affine(f'{name}.norm1', inputs)
        affine(f'{name}.norm2', TOKENS)
        for layer in ('proj', 'mlp.0', 'mlp.2'):
            affine(f'{name}.{layer}', TOKENS, TOKENS)
    affine('tokens_to_token.project', WIDTH, 9 * TOKENS)
    for number in range(LAYERS):
        affine(f'blocks.{number}.norm1', WIDTH)
        shapes[f'blocks.{number}.attn.qkv.weight'] = (3 * WIDTH, WIDTH)
        affine(f'blocks.{number}.attn.proj', WIDTH, WIDTH)
        affine(f'blocks.{number}.norm2', WIDTH)
        affine(f'blocks.{number}.mlp.fc1', 2 * WIDTH, WIDTH)
        affine(f'blocks.{number}.mlp.fc2', WIDTH, 2 * WIDTH)
    affine('norm', WIDTH)
    affine('head', CLASSES, WIDTH)
    return {
        name: torch.randn(shape) / math.sqrt(shape[-1] if len(shape) > 1 else 4)
        + (len(shape) == 1 and name.endswith('weight'))
        for name, shape in shapes.items()
    }


class TheirForward:
    """The authors' T2T-ViT as functions of its weights, with full kernel matrices."""

    def __init__(self, weights):
        self.weights = weights

    def linear(self, name, x):
        bias = self.weights.get(f'{name}.bias')
        return functional.linear(x, self.weights[f'{name}.weight'], bias)

    def norm(self, name, x):
        weight, bias = self.weights[f'{name}.weight'], self.weights[f'{name}.bias']
        return functional.layer_norm(x, weight.shape, weight, bias)

    def performer(self, name, x):
        x = self.linear(f'{name}.kqv', self.norm(f'{name}.norm1', x))
        key, query, value = x.split(TOKENS, dim=2)
        w = self.weights[f'{name}.w']

        def features(x):
            return torch.exp(x @ w.T - x.norm(dim=2, keepdim=True) ** 2 / 2)

        kernel = features(query) @ features(key).transpose(1, 2) / len(w)
        attended = kernel @ value / (kernel.sum(2, keepdim=True) + 1e-8)
        x = value + self.linear(f'{name}.proj', attended)
        hidden = self.linear(f'{name}.mlp.0', self.norm(f'{name}.norm2', x))
        return x + self.linear(f'{name}.mlp.2', functional.gelu(hidden))

    def layer(self, name, x):
        qkv = self.linear(f'{name}.attn.qkv', self.norm(f'{name}.norm1', x))
        q, k, v = (part.chunk(HEADS, dim=2) for part in qkv.chunk(3, dim=2))
        heads = [
            (a @ b.transpose(1, 2) * (WIDTH // HEADS) ** -0.5).softmax(2) @ c
            for a, b, c in zip(q, k, v)
        ]
        x = x + self.linear(f'{name}.attn.proj', torch.cat(heads, 2))
        hidden = self.linear(f'{name}.mlp.fc1', self.norm(f'{name}.norm2', x))
        return x + self.linear(f'{name}.mlp.fc2', functional.gelu(hidden))

    def __call__(self, images):
        x = functional.unfold(images, 7, stride=4, padding=2).transpose(1, 2)
        for name in ('attention1', 'attention2'):
            x = self.performer(f'tokens_to_token.{name}', x).transpose(1, 2)
            side = math.isqrt(x.shape[2])
            x = x.reshape(len(x), TOKENS, side, side)
            x = functional.unfold(x, 3, stride=2, padding=1).transpose(1, 2)
        x = self.linear('tokens_to_token.project', x)
        first = self.weights['cls_token'].expand(len(x), 1, WIDTH)
        x = torch.cat([first, x], 1) + self.weights['pos_embed']
        for number in range(LAYERS):
            x = self.layer(f'blocks.{number}', x)
        return self.linear('head', self.norm('norm', x)[:, 0])


def classifier(**changes):
    arch = dict(
        embed_dims=WIDTH, num_layers=LAYERS, num_heads=HEADS, feedforward_channels=48
    )
    backbone = dict(type='mmdyn.T2TViT', arch=arch, img_size=SIZE, token_dims=TOKENS)
    head = dict(type='LinearClsHead', num_classes=CLASSES, in_channels=WIDTH)
    model = dict(type='ImageClassifier', backbone=backbone, head=head)
    return MODELS.build({**model, **changes})


def convert(checkpoint):
    return FUNCTIONS['convert'](FUNCTIONS['unwrapped'](checkpoint))


def test_converted_weights_give_their_logits(tmp_path, mmpretrain_scope):
    weights = their_weights()
    others = {name: torch.zeros_like(tensor) for name, tensor in weights.items()}
    checkpoint = dict(state_dict=others, state_dict_ema=weights, epoch=1)
    torch.save(checkpoint, tmp_path / 'theirs.pth')
    file = tmp_path / 'new' / 'ours.pth'
    done = run_tool(TOOL, tmp_path / 'theirs.pth', file)
    assert f'{len(weights)} tensors' in done.stdout
    images = torch.rand(4, 3, SIZE, SIZE)
    expected = TheirForward(weights)(images)
    assert expected.std(dim=0).min() > 0.01, 'all images look the same'

    model = classifier()
    load_checkpoint(model, str(file), strict=True)
    torch.testing.assert_close(outputs_of(model, images), expected, rtol=0, atol=1e-5)

    exits = [dict(type='mmdyn.LinearExit', stage=1)]
    model = classifier(type='mmdyn.MultiExitClassifier', exits=exits)
    load_checkpoint(model, str(file))
    with at_operating_point(model, 'exit=2'):
        logits = outputs_of(model, images)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)

    backbone = classifier().backbone
    backbone.init_cfg = dict(type='Pretrained', checkpoint=str(file), prefix='backbone.')
    backbone.init_weights()
    (features,) = outputs_of(backbone, images)
    torch.testing.assert_close(features, outputs_of(model.backbone, images)[-1])


@pytest.mark.parametrize('wrapper', ['state_dict_ema', 'state_dict', 'net', None])
def test_what_checkpoints_wrap_weights_in(wrapper):
    weights = their_weights()
    checkpoint = weights
    if wrapper:  # as from DataParallel
        checkpoint = {wrapper: {f'module.{k}': v for k, v in weights.items()}, 'acc': 1.0}
    expected = convert(weights)
    assert len(expected) == len(weights)
    got = convert(checkpoint)
    assert got.keys() == expected.keys()
    assert all(got[name] is expected[name] for name in expected)


def renamed(weights, old, new):
    return {name.replace(old, new): tensor for name, tensor in weights.items()}


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda w: {**w, 'blocks.0.attn.qkv.bias': w['cls_token']}, 'attn.qkv.bias$'),
        (
            lambda w: renamed(w, 'blocks', 'layers'),
            'has no layers.0.norm1.weight, .*, layers.0.attn.qkv.weight and 30 more$',
        ),
        (
            lambda w: {k: v for k, v in w.items() if not k.endswith('attention2.w')},
            'performer layers: there is no tokens_to_token.attention2.w$',
        ),
        (lambda _: {}, 'no tokens_to_token.attention1.w, tokens_to_token.attention2.w$'),
    ],
)
def test_other_networks_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        convert(dict(state_dict=change(their_weights())))


def test_transformer_layers_are_refused_without_a_file(tmp_path):
    weights = renamed(their_weights(), 'attention1.kqv', 'attention1.attn.qkv')
    torch.save(weights, tmp_path / 'theirs.pth')
    files = tmp_path / 'theirs.pth', tmp_path / 'ours.pth'
    done = run_tool(TOOL, *files, check=False)
    assert done.returncode == 1 and not files[1].exists()
    assert done.stderr.strip().endswith(
        'theirs.pth: not a T2T-ViT with performer layers, which has no '
        'tokens_to_token.attention1.attn.qkv.weight, '
        'tokens_to_token.attention1.attn.qkv.bias'
    )


def test_a_missing_file_is_named(tmp_path):
    done = run_tool(TOOL, tmp_path / 'no.pth', tmp_path / 'out.pth', check=False)
    assert done.returncode == 1 and 'no.pth' in done.stderr
    assert 'Traceback' not in done.stderr
