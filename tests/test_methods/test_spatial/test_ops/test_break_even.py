import pytest
import torch

from mmdyn import CostMeter
from mmdyn.methods.spatial.ops import break_even
from mmdyn.methods.spatial.ops.break_even import MARGIN, BlockKind, break_even_share
from mmdyn.models.residual_block import BasicBlock, Bottleneck


def kind_of(block, positions=64):
    convs = [m for m in block.modules() if isinstance(m, torch.nn.Conv2d)]
    return BlockKind.of(convs, True, torch.rand(1, block.in_channels, 8, positions // 8))


@pytest.fixture
def times(monkeypatch):
    """Sets the seconds of the dense run and of the sparse ones; the blocks really run."""

    def set_times(*seconds):
        break_even_share.cache_clear()

        def answer(runs, threads):
            for run in runs:
                run()
            return list(seconds)

        monkeypatch.setattr(break_even, '_medians', answer)

    yield set_times
    break_even_share.cache_clear()


@pytest.mark.parametrize('block', [BasicBlock(16, 16), Bottleneck(64, 16)])
def test_break_even_is_where_the_line_meets_the_dense_time(times, block):
    """Sparse times of 2 and 8 at the two shares that were run, 6 for the dense block."""
    times(6.0, 2.0, 8.0)
    kind = kind_of(block)
    runs = break_even._RandomBlock(kind)
    low, high = (runs.sparse(fraction)[0] for fraction in (0.1, 0.6))
    assert 0 < low < high < 1
    expected = low + (high - low) * (6 * MARGIN - 2) / (8 - 2)
    assert break_even_share(kind) == pytest.approx(expected)


def test_never_and_always(times):
    times(0.1, 2.0, 3.0)
    assert break_even_share(kind_of(BasicBlock(16, 16))) == 0.0
    times(9.0, 2.0, 2.0)
    assert break_even_share(kind_of(BasicBlock(16, 16))) == 1.0


def test_measures_once_and_out_of_sight_of_the_caller(times, monkeypatch):
    times(6.0, 2.0, 8.0)
    measured = []
    measure = break_even._measure
    monkeypatch.setattr(
        break_even, '_measure', lambda kind: measured.append(kind) or measure(kind)
    )
    with CostMeter() as meter:
        for _ in range(2):
            break_even_share(kind_of(BasicBlock(16, 16)))
    assert meter.macs == 0
    assert len(measured) == 1


def test_kinds_of_similar_size_are_one():
    block = BasicBlock(16, 16)
    assert kind_of(block, 2000) == kind_of(block, 2200)
    assert kind_of(block, 2000) != kind_of(block, 4000)


def test_times_are_positive_numbers():
    seconds = break_even._medians([lambda: torch.rand(100).sum()] * 2, threads=1)
    assert len(seconds) == 2 and min(seconds) > 0
