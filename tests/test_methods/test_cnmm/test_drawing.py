import matplotlib.axes
from PIL import Image

from mmdyn.methods.cnmm.drawing import draw_frontier


def test_draws_curves_in_mmacs(tmp_path, monkeypatch):
    drawn = {}
    for kind in ('plot', 'step'):
        original = getattr(matplotlib.axes.Axes, kind)

        def spy(axes, x, y, *args, original=original, label=None, **kwargs):
            drawn[label] = list(zip(x, y))
            return original(axes, x, y, *args, label=label, **kwargs)

        monkeypatch.setattr(matplotlib.axes.Axes, kind, spy)
    path = tmp_path / 'frontier.png'
    draw_frontier(
        pruned={'exit 1': [(1e6, 50.0), (2e6, 60.0)], 'exit 2': [(3e6, 70.0)]},
        exits=[(2e6, 60.0), (5e6, 75.0)],
        envelopes={'by usage': [(1e6, 50.0), (5e6, 75.0)]},
        chosen=[(5e6, 75.0)],
        path=path,
        metric='top-1',
    )
    assert drawn['exit 1, pruned'] == [(1.0, 50.0), (2.0, 60.0)]
    assert drawn['exit 2, pruned'] == [(3.0, 70.0)]
    assert drawn['exits alone'] == [(2.0, 60.0), (5.0, 75.0)]
    assert drawn['best, by usage'] == [(1.0, 50.0), (5.0, 75.0)]
    assert drawn['points to offer'] == [(5.0, 75.0)]
    with Image.open(path) as picture:
        assert picture.size == (1280, 880)
