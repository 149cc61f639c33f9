"""Masked and sparse execution against each other and against the formula."""

import copy
from contextlib import nullcontext

import pytest
import torch
from helpers.reference import randomize_norms
from helpers.spatial_reference import FixedMask, block_by_formula, block_macs_by_loop
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mmdyn import CostMeter
from mmdyn.methods.spatial import block as spatial_block
from mmdyn.methods.spatial.block import SpatialBasicBlock, SpatialBottleneck
from mmdyn.methods.spatial.mask_unit import MaskSchedule


def make_block(
    kind=SpatialBasicBlock,
    channels=8,
    planes=8,
    stride=1,
    cell=1,
    style='pytorch',
    dilation=1,
):
    outputs = planes * kind.expansion
    downsample = None
    if stride > 1 or channels != outputs:
        conv = nn.Conv2d(channels, outputs, 1, stride=stride, bias=False)
        downsample = nn.Sequential(conv, nn.BatchNorm2d(outputs))
    block = kind(
        budgets=[0.5],
        cell=cell,
        schedule=MaskSchedule(),
        execution='sparse',
        in_channels=channels,
        planes=planes,
        stride=stride,
        dilation=dilation,
        style=style,
        downsample=downsample,
    )
    block.budget = 0.5
    return randomize_norms(block).eval()


def run(block, x, execution, mask=None):
    """Output and MACs of a forward pass; x stays as it is."""
    block.execution = execution
    fixed = nullcontext() if mask is None else FixedMask(block, mask)
    with torch.no_grad(), fixed, CostMeter() as meter:
        out = block(x.clone())
    return out, meter.macs


def macs_beside_the_branch(block, x):
    """Mask unit and skip connection, by formula."""
    n, channels, height, width = x.shape
    positions = n * -(-height // block.stride) * -(-width // block.stride)
    if block.stride == 1:
        macs = 10 * channels * n * height * width  # nine taps and the pooled layer
    else:
        macs = 9 * channels * positions + n * channels
    if block.downsample is not None:
        macs += positions * block.downsample[0].weight.numel()
    return macs


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from([SpatialBasicBlock, SpatialBottleneck]),
    images=st.integers(1, 3),
    height=st.integers(1, 11),
    width=st.integers(1, 11),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 3),
    wide=st.booleans(),
    style=st.sampled_from(['pytorch', 'caffe']),
    channels_last=st.booleans(),
    density=st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.9, 1.0]),
    empty_image=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_all_ways_to_execute_agree(
    kind, images, height, width, stride, dilation, wide, style, channels_last, density,
    empty_image, seed,
):  # fmt: skip
    torch.manual_seed(seed)
    planes = 6
    channels = planes * kind.expansion + (5 if wide else 0)
    block = make_block(kind, channels, planes, stride, style=style, dilation=dilation)
    x = torch.rand(images, channels, height, width)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    mask = (
        torch.rand(images, 1, -(-height // stride), -(-width // stride)) < density
    ).float()
    if empty_image:
        mask[0] = 0
    expected = block_by_formula(block, x, mask)
    masked, _ = run(block, x, 'masked', mask)
    torch.testing.assert_close(masked, expected, rtol=1e-5, atol=1e-5)
    sparse, macs = run(block, x, 'sparse', mask)
    torch.testing.assert_close(sparse, expected, rtol=0, atol=1e-4)
    branch = block_macs_by_loop(block, mask, x.shape)
    assert macs == branch + macs_beside_the_branch(block, x)
    assert float(block.cost.executed) * images == pytest.approx(branch, rel=1e-5)


@pytest.mark.parametrize('kind', [SpatialBasicBlock, SpatialBottleneck])
@pytest.mark.parametrize('stride', [1, 2])
def test_a_block_decides_by_its_own_mask_unit(kind, stride):
    block = make_block(kind, 8 * kind.expansion, stride=stride)
    nn.init.normal_(block.budget_modules.mask_unit.conv.weight)
    x = torch.rand(2, 8 * kind.expansion, 9, 7)
    with torch.no_grad():
        mask = block.budget_modules.mask_unit(x)
    assert 0 < mask.mean() < 1
    expected = block_by_formula(block, x, mask)
    for execution in ('masked', 'sparse', 'auto'):
        torch.testing.assert_close(
            run(block, x, execution)[0], expected, rtol=1e-5, atol=1e-4
        )


def test_only_active_positions_of_the_input_are_touched():
    block = make_block(channels=8)
    x = torch.rand(1, 8, 6, 6).contiguous(memory_format=torch.channels_last)
    before = x.clone()
    mask = torch.zeros(1, 1, 6, 6)
    mask[..., 2, 3] = 1
    with torch.no_grad(), FixedMask(block, mask):
        out = block(x)
    assert out.data_ptr() == x.data_ptr()
    changed = (x != before).any(dim=1).nonzero().tolist()
    assert changed == [[0, 2, 3]]


def test_gradients_and_training_compute_everything():
    block = make_block()
    x = torch.rand(1, 8, 5, 5)
    mask = torch.zeros(1, 1, 5, 5)
    with FixedMask(block, mask), CostMeter() as meter:
        out = block(x)
    assert out.requires_grad
    assert meter.macs == 2 * 25 * 9 * 64 + macs_beside_the_branch(block, x)
    block.train()
    with torch.no_grad(), FixedMask(block, mask), CostMeter() as meter:
        block(x)
    assert meter.macs == 2 * 25 * 9 * 64 + macs_beside_the_branch(block, x)


@pytest.mark.parametrize(('break_even', 'quicker'), [(0.2, 'dense'), (0.9, 'sparse')])
def test_auto_goes_by_the_executed_share(monkeypatch, break_even, quicker):
    monkeypatch.setattr(spatial_block, 'break_even_share', lambda _: break_even)
    block = make_block()
    x = torch.rand(1, 8, 8, 8)
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :4, :4] = 1  # reads 5 × 5 of 64: a share of (25 + 16) / 128 = 0.32
    out, macs = run(block, x, 'auto', mask)
    torch.testing.assert_close(out, block_by_formula(block, x, mask), rtol=0, atol=1e-4)
    executed = dict(dense=128, sparse=41)[quicker] * 9 * 64
    assert macs == executed + macs_beside_the_branch(block, x)
    asked = pytest.approx(41 * 9 * 64)  # by the mask, either way
    assert float(block.cost.executed) == asked


def test_folded_weights_follow_the_originals():
    block = make_block()
    x = torch.rand(1, 8, 5, 5)
    mask = torch.ones(1, 1, 5, 5)
    run(block, x, 'sparse', mask)  # folds
    state = copy.deepcopy(block.state_dict())
    for change in (
        lambda: block.conv1.weight.mul_(2),
        lambda: (block.conv2.weight.data.mul_(2), block.eval()),
        lambda: block.budget_modules.bn2.running_mean.add_(1),
        lambda: block.load_state_dict(state),
        lambda: setattr(block.conv1, 'weight', nn.Parameter(torch.rand(8, 8, 3, 3))),
    ):
        with torch.no_grad():
            change()
        got, _ = run(block, x, 'sparse', mask)
        expected = block_by_formula(block, x, mask)
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize('execution', ['masked', 'sparse', 'auto'])
def test_bf16(execution):
    block = make_block(SpatialBottleneck, channels=32)
    x = torch.rand(2, 32, 9, 9).bfloat16()
    mask = (torch.rand(2, 1, 9, 9) < 0.4).float()
    block.bfloat16()
    got, _ = run(block, x, execution, mask.bfloat16())
    assert got.dtype == torch.bfloat16
    expected = block_by_formula(block.float(), x.float(), mask)
    torch.testing.assert_close(got.float(), expected, rtol=0.03, atol=0.06)


def test_masks_steer_by_their_gradient():
    """Where the branch lowers the loss, descending it makes the mask unit say yes."""
    block = make_block().train()
    block.budget_modules.mask_unit.schedule.noise = False
    x = torch.rand(2, 8, 5, 5)
    out = block(x)
    out.sum().backward()
    weight = block.budget_modules.mask_unit.conv.weight
    assert weight.grad.abs().max() > 0
    stock = [p for n, p in block.named_parameters() if n.startswith('bn')]
    assert stock and all(p.grad is None for p in stock)  # the dense norms


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('kind', [SpatialBasicBlock, SpatialBottleneck])
def test_on_a_gpu(kind, dtype, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', False)
    block = make_block(kind, 16 * kind.expansion, 16).cuda().to(dtype)
    x = torch.rand(3, 16 * kind.expansion, 33, 29, device='cuda', dtype=dtype)
    mask = (torch.rand(3, 1, 33, 29, device='cuda') < 0.3).to(dtype)
    masked, _ = run(block, x, 'masked', mask)
    sparse, macs = run(block, x, 'sparse', mask)
    atol = 1e-4 if dtype == torch.float32 else 0.1
    torch.testing.assert_close(sparse, masked, rtol=0.02 * (atol > 1e-3), atol=atol)
    assert macs == block_macs_by_loop(block, mask, x.shape) + macs_beside_the_branch(
        block, x
    )
