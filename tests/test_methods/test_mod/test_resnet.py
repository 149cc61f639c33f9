import pytest
import torch
from helpers.mod_reference import in_bf16_and_by_loop, mod_by_loop
from helpers.reference import assert_same_in_onnxruntime, outputs_of, randomize_norms
from mmengine.model import revert_sync_batchnorm
from torch import nn

from mmdyn import operating_points
from mmdyn.methods.mod.resnet import ResNetMoD

FUSIONS = ['first', 'last', 'original']


@pytest.mark.parametrize('depth', [18, 50])
@pytest.mark.parametrize('divisor', [1, 8, 64])
@pytest.mark.parametrize('fusion', FUSIONS)
@pytest.mark.parametrize('gradients', [False, True])
def test_block_against_a_loop_over_samples_and_channels(
    depth, divisor, fusion, gradients
):
    model = ResNetMoD(depth, divisor=divisor, fusion=fusion).eval()
    block = randomize_norms(model).layer2[1]
    x = torch.rand(3, block.in_channels, 7, 5)
    expected = mod_by_loop(block.mod, x, block.narrow_branch)
    with torch.set_grad_enabled(gradients):
        torch.testing.assert_close(block(x.clone()), expected)


@pytest.mark.parametrize('fusion', FUSIONS)
@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
def test_without_gradients_the_map_is_changed_in_place(fusion, layout):
    block = randomize_norms(ResNetMoD(18, divisor=16, fusion=fusion)).layer1[1].eval()
    x = torch.rand(2, 64, 8, 8).contiguous(memory_format=layout)
    before = x.clone()
    with torch.no_grad():
        got = block(x)
    assert got.data_ptr() == x.data_ptr() and got.stride() == x.stride()
    changed = (got != before).flatten(2).any(dim=2).sum(dim=1)
    assert changed.tolist() == [4, 4]
    # With gradients the input stays as it was.
    after = x.clone()
    block(x)
    assert torch.equal(x, after)


@pytest.mark.parametrize('depth', [18, 50])
def test_outputs_of_stages_survive_the_in_place_blocks(depth):
    model = randomize_norms(ResNetMoD(depth, out_indices=(0, 1, 2, 3))).eval()
    image = torch.rand(2, 3, 64, 64)
    expected = [out.detach() for out in model(image)]
    for a, b in zip(expected, outputs_of(model, image)):
        torch.testing.assert_close(b, a)


@pytest.mark.parametrize('depth', [18, 50])
@pytest.mark.parametrize('fusion', FUSIONS)
def test_channels_last(depth, fusion):
    model = randomize_norms(ResNetMoD(depth, fusion=fusion))
    image = torch.rand(2, 3, 64, 64)
    (expected,) = outputs_of(model, image)
    model.to(memory_format=torch.channels_last)
    (got,) = outputs_of(model, image.contiguous(memory_format=torch.channels_last))
    assert got.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('fusion', FUSIONS)
@pytest.mark.parametrize('gradients', [False, True])
def test_bf16(fusion, gradients):
    model = ResNetMoD(18, divisor=16, fusion=fusion, reduction=1)
    block = randomize_norms(model).layer1[1].eval()
    got, expected = in_bf16_and_by_loop(block, block.narrow_branch, gradients)
    torch.testing.assert_close(got, expected, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize('fusion', FUSIONS)
@pytest.mark.parametrize('norm', ['BN', 'GN'])
def test_autocast(fusion, norm):
    """Group norms run in fp32 there, between convolutions in bf16."""
    norm_cfg = dict(type='BN') if norm == 'BN' else dict(type='GN', num_groups=1)
    model = ResNetMoD(18, stem='cifar', fusion=fusion, norm_cfg=norm_cfg)
    image = torch.rand(2, 3, 16, 16)
    (expected,) = model(image)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        (got,) = model(image)
        with torch.no_grad():
            (in_place,) = model(image)
    scale = expected.abs().max().item()
    assert (got.float() - expected).abs().mean() < 0.02 * scale
    assert (in_place.float() - expected).abs().mean() < 0.02 * scale


@pytest.mark.parametrize('fusion', FUSIONS)
@pytest.mark.parametrize('gradients', [False, True])
def test_one_graph_for_torch_compile(fusion, gradients):
    """No branch on data, no break of the graph; the compiler's own tests do the rest."""
    model = ResNetMoD(18, stem='cifar', fusion=fusion, num_stages=2)
    model = randomize_norms(model).eval()
    image = torch.rand(2, 3, 16, 16)
    torch._dynamo.reset()
    with torch.set_grad_enabled(gradients):
        (expected,) = model(image)
        compiled = torch.compile(model, backend='aot_eager', fullgraph=True)
        torch.testing.assert_close(compiled(image)[0], expected)


@pytest.mark.parametrize('fusion', FUSIONS)
def test_onnx(fusion, tmp_path):
    # Few channels are picked, so that no two compete within rounding. Stages are alike:
    # one fusion is exported with all of them.
    stages = 4 if fusion == 'first' else 2
    model = ResNetMoD(18, divisor=64, fusion=fusion, num_stages=stages)
    randomize_norms(model)
    assert_same_in_onnxruntime(model, torch.rand(2, 3, 64, 64), tmp_path)


def test_every_second_block_routes_channels():
    model = ResNetMoD(50)
    kinds = [
        type(block).__name__
        for name in model.res_layers
        for block in getattr(model, name)
    ]
    pair = ['Bottleneck', 'MoDBottleneck']
    assert kinds == (pair * 2)[:3] + pair * 2 + pair * 3 + (pair * 2)[:3]


@pytest.mark.parametrize('fusion', FUSIONS)
@pytest.mark.parametrize('with_cp', [False, True])
def test_selector_learns(fusion, with_cp):
    model = ResNetMoD(
        18, stem='cifar', base_channels=16, divisor=4, fusion=fusion, with_cp=with_cp
    )
    model.train()
    model(torch.rand(4, 3, 16, 16))[0].square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    assert model.layer1[1].mod.selector.score[2].weight.grad.abs().sum() > 0


def test_only_selected_channels_teach_the_selector():
    block = randomize_norms(ResNetMoD(18, divisor=16)).layer1[1].eval()
    x = torch.rand(1, 64, 8, 8)
    _, _, index = block.mod.selector(x)
    block(x).sum().backward()
    rows = block.mod.selector.score[2].weight.grad.abs().sum(dim=1).nonzero().flatten()
    assert set(rows.tolist()) <= set(index[0, :, 0, 0].tolist()) and len(rows) > 0


@pytest.mark.parametrize('fusion', FUSIONS)
def test_checkpointing_changes_no_gradient(fusion):
    arguments = dict(stem='cifar', base_channels=16, divisor=4, fusion=fusion)
    plain, saving = ResNetMoD(18, **arguments), ResNetMoD(18, with_cp=True, **arguments)
    saving.load_state_dict(plain.state_dict())
    image = torch.rand(4, 3, 16, 16)
    grads = []
    for model in (plain, saving):
        model.train()
        model(image)[0].square().sum().backward()
        grads.append([p.grad for p in model.parameters()])
    for a, b in zip(*grads):
        torch.testing.assert_close(a, b)


def test_dilations_reach_the_mod_blocks():
    basic = ResNetMoD(18, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4))
    assert basic.layer4[1].conv1.dilation == basic.layer4[1].conv1.padding == (4, 4)
    model = ResNetMoD(
        50,
        strides=(1, 2, 1, 1),
        dilations=(1, 1, 2, 4),
        contract_dilation=True,
        deep_stem=True,
        out_indices=(0, 1, 2, 3),
    )
    assert model.layer4[1].conv2.dilation == model.layer4[1].conv2.padding == (4, 4)
    outs = outputs_of(model, torch.rand(1, 3, 64, 64))
    assert [tuple(o.shape[1:]) for o in outs] == [
        (256, 16, 16),
        (512, 8, 8),
        (1024, 8, 8),
        (2048, 8, 8),
    ]


def test_norms_of_mod_blocks_are_those_of_the_config():
    model = ResNetMoD(50, norm_cfg=dict(type='SyncBN', requires_grad=True))
    assert isinstance(model.layer1[1].norm(3), nn.SyncBatchNorm)
    outs = outputs_of(revert_sync_batchnorm(model), torch.rand(1, 3, 64, 64))
    assert outs[0].shape == (1, 2048, 2, 2)
    model = ResNetMoD(50, norm_cfg=dict(type='GN', num_groups=1))
    assert isinstance(model.layer1[1].norm(3), nn.GroupNorm)


def test_frozen_stages_and_norm_eval():
    model = ResNetMoD(18, frozen_stages=2, norm_eval=True)
    model.train()
    trained = {n.split('.')[0] for n, p in model.named_parameters() if p.requires_grad}
    assert trained == {'layer3', 'layer4'}
    assert not any(m.training for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    model(torch.rand(2, 3, 64, 64))[0].sum().backward()
    assert model.layer2[1].mod.selector.score[0].weight.grad is None
    assert model.layer3[1].mod.selector.score[0].weight.grad.abs().sum() > 0


def test_mod_blocks_start_as_the_identity():
    model = ResNetMoD(50)
    model.init_weights()
    x = torch.rand(1, 512, 4, 4)
    with torch.no_grad():
        assert torch.equal(model.layer2[1](x.clone()), x)


def test_one_operating_point():
    assert [p.name for p in operating_points(ResNetMoD(18))] == ['dense']


@pytest.mark.parametrize('divisor', [0, -1, 65])
def test_divisor_limits(divisor):
    with pytest.raises(ValueError, match=f'divisor must lie in 1…64.*got {divisor}'):
        ResNetMoD(18, divisor=divisor)


def test_divisor_is_limited_by_the_channels_of_the_first_block():
    message = 'divisor must lie in 1…16, the channels of the first block, got 17'
    with pytest.raises(ValueError, match=message):
        ResNetMoD(18, base_channels=16, divisor=17)
    assert ResNetMoD(18, base_channels=16, divisor=16).layer1[1].mod.num_selected == 1


def test_reduction_sets_the_width_of_the_selector():
    hidden = ResNetMoD(18, reduction=4).layer1[1].mod.selector.score[0]
    assert hidden.out_features == 16


@pytest.mark.parametrize(
    ('setting', 'message'),
    [
        (dict(fusion='middle'), "one of .'first', 'last', 'original'., got 'middle'"),
        (dict(reduction=0), 'reduction must be a whole number above 0, got 0'),
        (dict(reduction=0.5), 'reduction must be a whole number above 0, got 0.5'),
        (dict(divisor=2.5), 'divisor must lie in 1…64, .* got 2.5'),
        (dict(divisor=None), 'divisor must lie in 1…64, .* got None'),
        (
            dict(base_channels=-16),
            'base_channels must be a whole number above 0, got -16',
        ),
    ],
)
def test_refused_settings(setting, message):
    with pytest.raises(ValueError, match=message):
        ResNetMoD(18, **setting)


@pytest.mark.parametrize('depth', [20, 19, -18])
def test_unknown_depth(depth):
    message = (
        rf'ResNetMoD has no depth {depth}; valid ones: '
        r'\[18, 26, 34, 42, 50, 75, 86, 101, 152'
    )
    with pytest.raises(ValueError, match=message):
        ResNetMoD(depth)
