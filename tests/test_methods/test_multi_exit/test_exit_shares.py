import matplotlib.axes
import numpy as np
import pytest
from PIL import Image

from mmdyn.methods.multi_exit.exit_shares import draw_exit_shares

SHARES = np.array([[0.2, 0.3, 0.5], [np.nan] * 3, [0.9, 0.1, 0.0], [0.5, 0.0, 0.5]])
ACCURACIES = np.array([0.4, np.nan, 0.8, 0.6])


@pytest.fixture
def drawn(monkeypatch):
    """What was drawn: the stacked bands and the points, in order."""
    bands, points = [], []
    stairs, plot = matplotlib.axes.Axes.stairs, matplotlib.axes.Axes.plot

    def spy_on_stairs(axes, values, edges, *, baseline, label, **kwargs):
        bands.append((label, list(values - baseline), list(baseline)))
        return stairs(axes, values, edges, baseline=baseline, label=label, **kwargs)

    def spy_on_plot(axes, x, y, *args, **kwargs):
        points.append(list(zip(x, y)))
        return plot(axes, x, y, *args, **kwargs)

    monkeypatch.setattr(matplotlib.axes.Axes, 'stairs', spy_on_stairs)
    monkeypatch.setattr(matplotlib.axes.Axes, 'plot', spy_on_plot)
    return bands, points


def test_bands_are_sorted_and_stacked(tmp_path, drawn):
    bands, points = drawn
    path = tmp_path / 'shares.png'
    draw_exit_shares({'balanced': SHARES}, {'balanced': ACCURACIES}, path)
    # Classes 2, 3 and 0, from the most to the fewest that leave at exit 1.
    expected = [
        ('exit 1', [90, 50, 20], [0, 0, 0]),
        ('exit 2', [10, 0, 30], [90, 50, 20]),
        ('exit 3', [0, 50, 50], [100, 50, 50]),
    ]
    for (label, heights, bottoms), (name, wanted, below) in zip(bands, expected):
        assert label == name
        assert heights == pytest.approx(wanted)
        assert bottoms == pytest.approx(below)
    assert len(bands) == 3
    assert points == [[(20, 40), (90, 80), (50, 60)]]
    with Image.open(path) as picture:
        assert picture.size == (1600, 680)
        assert len(picture.convert('L').getcolors()) > 10


def test_a_row_for_each_point(tmp_path, drawn):
    path = tmp_path / 'shares.png'
    shares = {'quick': SHARES, 'careful': SHARES[:, ::-1]}
    draw_exit_shares(shares, {'quick': ACCURACIES, 'careful': ACCURACIES}, path)
    assert [label for label, _, _ in drawn[0]] == ['exit 1', 'exit 2', 'exit 3'] * 2
    assert drawn[1][1] == [(50, 40), (0, 80), (50, 60)]
    with Image.open(path) as picture:
        assert picture.size == (1600, 1280)
