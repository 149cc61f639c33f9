import matplotlib.axes
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from mmdyn.visualization.curve import draw_comparison, draw_curve


@pytest.mark.parametrize('dense_score', [90.0, None])
@pytest.mark.parametrize('names', [['only'], ['a', 'b', 'c']])
def test_draws_a_picture(tmp_path, names, dense_score):
    path = tmp_path / 'curve.png'
    macs, scores = [4e6, 2e6, 3e6][: len(names)], [90.0, 80.0, 70.0][: len(names)]
    draw_curve(
        names,
        list(zip(macs, scores)),
        path,
        metric='top-1',
        dense_macs=4e6,
        dense_score=dense_score,
    )
    with Image.open(path) as picture:
        assert picture.size == (1200, 800)
        assert len(picture.convert('L').getcolors()) > 10


@pytest.fixture
def drawn(monkeypatch):
    """What was drawn: (label, points, format, settings) a curve; the vertical lines."""
    lines, verticals = [], []
    plot, axvline = matplotlib.axes.Axes.plot, matplotlib.axes.Axes.axvline

    def spy_on_plot(axes, x, y, form, *, label=None, **kwargs):
        lines.append((label, list(zip(x, y)), form, kwargs))
        return plot(axes, x, y, form, label=label, **kwargs)

    def spy_on_axvline(axes, x, *, label=None, **kwargs):
        verticals.append((label, x))
        return axvline(axes, x, label=label, **kwargs)

    monkeypatch.setattr(matplotlib.axes.Axes, 'plot', spy_on_plot)
    monkeypatch.setattr(matplotlib.axes.Axes, 'axvline', spy_on_axvline)
    return lines, verticals


def test_own_front_is_joined_and_the_rest_hollow(tmp_path, drawn):
    lines, verticals = drawn
    path = tmp_path / 'comparison.png'
    curves = {
        'gates': [(3e6, 90.0), (1e6, 70.0), (2e6, 60.0), (4e6, 90.0)],
        'thresholds': [(2e6, 95.0)],
    }
    draw_comparison(curves, path, metric='top-1', dense_macs=[4e6])
    front, rest, other = lines
    assert front[:3] == ('gates', [(1.0, 70.0), (3.0, 90.0)], 'o-')
    assert rest[:3] == (None, [(2.0, 60.0), (4.0, 90.0)], 'o')
    assert rest[3]['mfc'] == 'white' and rest[3]['color'] == front[3]['color']
    # Points of another model do not take a point from this one's front.
    assert other[:3] == ('thresholds', [(2.0, 95.0)], 's-')
    assert verticals == [('nothing skipped', 4.0)]
    with Image.open(path) as picture:
        assert picture.size == (1280, 880)
        assert len(picture.convert('L').getcolors()) > 10


def test_every_dense_cost_once_in_gmacs(tmp_path, drawn):
    curves = {'a': [(1e9, 1.0)], 'b': [(2e8, 2.0)]}
    path = tmp_path / 'comparison.png'
    draw_comparison(curves, path, metric='top-1', dense_macs=[4e9, 5e8, 4e9])
    assert drawn[1] == [('nothing skipped', 0.5), (None, 4.0)]
    assert [points for _, points, *_ in drawn[0]] == [[(1.0, 1.0)], [(0.2, 2.0)]]


def test_many_series_can_be_told_apart_in_grey(tmp_path, drawn):
    curves = {f'model {i}': [(1e6 * (i + 1), float(i))] for i in range(8)}
    draw_comparison(curves, tmp_path / 'many.png', metric='top-1', dense_macs=[8e6])
    assert len({form for _, _, form, _ in drawn[0]}) == 8
    greys = [
        sum(w * c for w, c in zip((0.299, 0.587, 0.114), to_rgb(settings['color'])))
        for *_, settings in drawn[0]
    ]
    assert greys == sorted(greys) and greys[-1] < 0.8
    assert min(b - a for a, b in zip(greys, greys[1:])) > 0.03
