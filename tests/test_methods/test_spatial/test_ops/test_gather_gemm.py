import os
import subprocess
import sys

import pytest
import torch
from helpers.paths import ROOT

from mmdyn.methods.spatial.ops.gather_gemm import CHUNK, gather_gemm
from mmdyn.methods.spatial.ops.triton_op import HAS_TRITON
from mmdyn.models.folding import FoldedConv


def conv_of(weight, bias):
    """A folded convolution with weights (D, taps, C)."""
    outputs, taps, channels = weight.shape
    side = round(taps**0.5)
    images = weight.view(outputs, side, side, channels).permute(0, 3, 1, 2)
    return FoldedConv(images, bias, conv=None)


def expected_rows(source, index, weight, bias, out, out_index, add, relu):
    """The definition, one position at a time."""
    out = out.clone()
    for p in range(len(source) if index is None else len(index)):
        total = bias.clone()
        for tap, row in enumerate([p] if index is None else index[p].tolist()):
            if row < len(source):
                total += weight[:, tap] @ source[row]
        target = p if out_index is None else out_index[p]
        total += out[target] if add else 0
        out[target] = total.relu() if relu else total
    return out


@pytest.mark.parametrize('add', [False, True])
@pytest.mark.parametrize('relu', [False, True])
@pytest.mark.parametrize('scattered', [False, True])
@pytest.mark.parametrize('taps', [None, 1, 9])
def test_against_the_definition(add, relu, scattered, taps):
    source = torch.randn(20, 5)
    positions = 20 if taps is None else 30
    index = None if taps is None else torch.randint(0, 21, (positions, taps))
    weight, bias = torch.randn(7, taps or 1, 5), torch.randn(7)
    out = torch.randn(40, 7)
    out_index = torch.randperm(40)[:positions] if scattered else None
    expected = expected_rows(source, index, weight, bias, out, out_index, add, relu)
    gather_gemm(source, index, conv_of(weight, bias), out, out_index, add, relu)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)


def test_chunks_fit_together():
    source = torch.randn(500, 3)
    index = torch.randint(0, 501, (2 * CHUNK + 5, 9))
    weight, bias = torch.randn(2, 9, 3), torch.randn(2)
    out = torch.empty(len(index), 2)
    gather_gemm(source, index, conv_of(weight, bias), out)
    padded = torch.cat([source, torch.zeros(1, 3)])
    expected = padded[index].flatten(1) @ weight.flatten(1).t() + bias
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)


def test_nothing_to_compute():
    out = torch.randn(4, 2)
    before = out.clone()
    conv = conv_of(torch.randn(2, 9, 3), torch.randn(2))
    gather_gemm(torch.randn(5, 3), torch.empty(0, 9, dtype=torch.int64), conv, out)
    assert torch.equal(out, before)


# Triton decides when it is imported whether it compiles or interprets.
IN_TRITON = """
import torch
from torch.utils.flop_counter import FlopCounterMode
import mmdyn.methods.spatial.ops.triton_op

torch.manual_seed(0)
shapes = (70, 9, 20, 33), (10, 1, 64, 16), (64, 9, 32, 64)
for positions, taps, channels, outputs in shapes:
    for out_index in (None, torch.randperm(100)[:positions]):
        for add, relu in ((False, False), (True, True)):
            source = torch.randn(50, channels)
            index = torch.randint(0, 51, (positions, taps))
            weight = torch.randn(outputs, taps * channels)
            bias = torch.randn(outputs)
            out = torch.randn(100, outputs)
            sums = torch.cat([source, torch.zeros(1, channels)])[index].flatten(1)
            sums = sums @ weight.t() + bias
            expected = out.clone()
            rows = torch.arange(positions) if out_index is None else out_index
            sums = sums + expected[rows] if add else sums
            expected[rows] = sums.relu() if relu else sums
            with FlopCounterMode(display=False) as counter:
                torch.ops.mmdyn.gather_gemm(
                    source, index, weight.t(), bias, out, out_index, add, relu
                )
            torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)
            assert counter.get_total_flops() == 2 * positions * taps * channels * outputs
source, weight, out = torch.randn(12, 8), torch.randn(4, 8), torch.empty(12, 4)
torch.ops.mmdyn.gather_gemm(
    source, None, weight.t(), torch.zeros(4), out, None, False, False
)
torch.testing.assert_close(out, source @ weight.t(), rtol=1e-4, atol=1e-4)
"""


@pytest.mark.skipif(not HAS_TRITON, reason='torch came without Triton 3')
def test_triton_kernel_in_its_interpreter():
    environment = {**os.environ, 'TRITON_INTERPRET': '1', 'PYTHONPATH': str(ROOT)}
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', IN_TRITON],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
