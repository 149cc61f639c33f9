import matplotlib.axes
import numpy as np
import pytest
from PIL import Image

from mmdyn.evaluation.uncertainty.reliability import ReliabilityBins
from mmdyn.visualization.reliability import draw_reliability

BEFORE = ReliabilityBins(np.array([2, 2]), np.array([0.6, 0.9]), np.array([0.5, 0.7]))
AFTER = ReliabilityBins(np.array([3, 1]), np.array([0.5, 0.8]), np.array([0.5, 0.6]))


@pytest.fixture
def drawn(monkeypatch):
    """The lines that were drawn, by their label."""
    lines, plot = {}, matplotlib.axes.Axes.plot

    def spy(axes, x, y, *args, label, **kwargs):
        lines[label] = np.column_stack([x, y]).round(9).tolist()
        return plot(axes, x, y, *args, label=label, **kwargs)

    monkeypatch.setattr(matplotlib.axes.Axes, 'plot', spy)
    return lines


def test_accuracy_over_confidence(tmp_path, drawn):
    path = tmp_path / 'reliability.png'
    draw_reliability(path, {'before': BEFORE, 'after': AFTER}, title='exit 1')
    assert list(drawn) == [
        'calibrated',
        'before: ECE 15.0 %',  # (0.1 + 0.2) / 2
        'after: ECE 5.0 %',  # 0.2 of one image of four
    ]
    assert drawn['calibrated'] == [[0, 0], [100, 100]]
    assert drawn['before: ECE 15.0 %'] == [[60, 50], [90, 70]]
    assert drawn['after: ECE 5.0 %'] == [[50, 50], [80, 60]]
    with Image.open(path) as picture:
        assert picture.size == (1000, 1080)
        assert len(picture.convert('L').getcolors()) > 10


def test_the_picture_grows_with_the_legend(tmp_path, drawn):
    path = tmp_path / 'reliability.png'
    draw_reliability(path, {f'exit {i}': BEFORE for i in range(14)})
    assert len(drawn) == 15
    with Image.open(path) as picture:
        assert picture.size == (1000, 1320)
