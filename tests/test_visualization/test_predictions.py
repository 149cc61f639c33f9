import matplotlib.figure
import numpy as np
import pytest
from PIL import Image

from mmdyn.visualization.predictions import Prediction, Row, draw_predictions


@pytest.fixture
def panels(monkeypatch):
    """The panels of the figure that was written: its axes, row by row."""
    written = []
    savefig = matplotlib.figure.Figure.savefig

    def spy(figure, *args, **kwargs):
        written.extend(figure.axes)
        return savefig(figure, *args, **kwargs)

    monkeypatch.setattr(matplotlib.figure.Figure, 'savefig', spy)
    return written


def picture(value, height=20, width=30):
    return np.full((height, width, 3), value, dtype=np.uint8)


def test_a_row_an_image_and_a_column_a_point(tmp_path, panels):
    wide = Row(
        'wide.jpg',
        picture(0),
        {
            'exit=1': Prediction(picture(1), 1_234_000),
            'exit=2': Prediction(picture(2), 56_780_000),
        },
    )
    tall = Row(
        'tall.jpg',
        picture(3, height=60),
        {
            'exit=1': Prediction(picture(4, height=60), 3_702_000),
            'exit=2': Prediction(picture(5, height=60), 999_999_999),
        },
    )
    draw_predictions([wide, tall], tmp_path / 'grid.png')
    shown = [(a.get_title(), a.images[0].get_array().max()) for a in panels]
    assert shown == [
        ('wide.jpg', 0),
        ('exit=1\n1.23 MMACs', 1),
        ('exit=2\n56.78 MMACs', 2),
        ('tall.jpg', 3),
        ('exit=1\n3.70 MMACs', 4),
        ('exit=2\n1000.00 MMACs', 5),
    ]
    boxes = [axes.get_position() for axes in panels]
    assert boxes[0].x0 < boxes[1].x0 < boxes[2].x0
    assert boxes[0].y0 > boxes[3].y1
    # Every panel is as wide as the others: none is shrunk to the height of its row.
    assert np.ptp([box.width for box in boxes]) < 0.02 * boxes[0].width
    assert boxes[3].height == pytest.approx(3 * boxes[0].height, rel=0.02)
    with Image.open(tmp_path / 'grid.png') as file:
        assert file.size == (1920, 1906)  # 3 × 3.2 by 3.2 × (2/3 + 2) + 2 × 0.5 inches


def test_one_unit_for_all_panels(tmp_path, panels):
    costs = dict(cheap=98_760_000, dear=1_000_000_000)
    predictions = {name: Prediction(picture(1), macs) for name, macs in costs.items()}
    draw_predictions([Row('a', picture(0), predictions)], tmp_path / 'grid.png')
    titles = [axes.get_title() for axes in panels[1:]]
    assert titles == ['cheap\n0.099 GMACs', 'dear\n1.000 GMACs']


def test_long_names_stay_over_their_panels(tmp_path, panels):
    predictions = {'b' * 50: Prediction(picture(1), 10**6)}
    draw_predictions([Row('a' * 50, picture(0), predictions)], tmp_path / 'grid.png')
    panels[0].figure.canvas.draw()  # at the resolution of the figure, not the file's
    for axes, name in zip(panels, 'ab'):
        assert axes.get_title().replace('\n', '').startswith(50 * name)
        assert axes.title.get_window_extent().width < axes.bbox.width
