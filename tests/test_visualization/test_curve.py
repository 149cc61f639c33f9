import matplotlib.axes
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from mmdyn import OperatingPointReport
from mmdyn.evaluation.comparison import ReportComparison
from mmdyn.evaluation.point_result import PointResult
from mmdyn.visualization.curve import draw_report


def report(points, dense_macs=4e6):
    """A report of points given as (MACs, score), named a, b, c, …"""
    return OperatingPointReport(
        config=None,
        checkpoint=None,
        device='cpu',
        batch_size=8,
        dense_point='a',
        dense_macs_per_image=dense_macs,
        points=[
            PointResult(name, {'top-1': score}, macs)
            for name, (macs, score) in zip('abcdefgh', points)
        ],
    )


@pytest.mark.parametrize('dense_point', ['a', 'unmeasured'])
@pytest.mark.parametrize('number', [1, 3])
def test_draws_a_picture(tmp_path, number, dense_point):
    of_one = report([(4e6, 90.0), (2e6, 80.0), (3e6, 70.0)][:number])
    of_one.dense_point = dense_point
    (path,) = draw_report(of_one, tmp_path)
    assert path == tmp_path / 'operating_points.png'
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
    reports = {
        'gates': report([(3e6, 90.0), (1e6, 70.0), (2e6, 60.0), (4e6, 90.0)]),
        'thresholds': report([(2e6, 95.0)]),
    }
    (path,) = draw_report(ReportComparison(reports), tmp_path)
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
    costs = dict(a=(1e9, 4e9), b=(2e8, 5e8), c=(4e9, 4e9))
    reports = {
        name: report([(macs, 1.0)], dense) for name, (macs, dense) in costs.items()
    }
    draw_report(ReportComparison(reports), tmp_path)
    assert drawn[1] == [('nothing skipped', 0.5), (None, 4.0)]
    assert [points for _, points, *_ in drawn[0]] == [
        [(1.0, 1.0)],
        [(0.2, 1.0)],
        [(4.0, 1.0)],
    ]


def test_many_series_can_be_told_apart_in_grey(tmp_path, drawn):
    reports = {f'{i}': report([(1e6 * (i + 1), float(i))], 8e6) for i in range(8)}
    draw_report(ReportComparison(reports), tmp_path)
    assert len({form for _, _, form, _ in drawn[0]}) == 8
    greys = [
        sum(w * c for w, c in zip((0.299, 0.587, 0.114), to_rgb(settings['color'])))
        for *_, settings in drawn[0]
    ]
    assert greys == sorted(greys) and greys[-1] < 0.8
    assert min(b - a for a, b in zip(greys, greys[1:])) > 0.03
