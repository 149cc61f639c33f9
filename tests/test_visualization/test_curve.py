import random

import pytest
from PIL import Image

from mmdyn.visualization.curve import draw_curve, pareto_mask


def test_pareto_against_brute_force():
    rng = random.Random(0)
    for _ in range(50):
        points = [(rng.randint(0, 5), rng.randint(0, 5)) for _ in range(8)]
        # Walking along rising cost, a point counts if it beats all cheaper scores and is
        # the best at its own cost.
        expected = []
        for cost, score in points:
            cheaper = [s for c, s in points if c < cost]
            equal = [s for c, s in points if c == cost]
            expected.append(score > max(cheaper, default=-1) and score == max(equal))
        assert pareto_mask(*zip(*points)) == expected


@pytest.mark.parametrize('dense_score', [90.0, None])
@pytest.mark.parametrize('names', [['only'], ['a', 'b', 'c']])
def test_draws_a_picture(tmp_path, names, dense_score):
    path = tmp_path / 'curve.png'
    macs, scores = [4e6, 2e6, 3e6][: len(names)], [90.0, 80.0, 70.0][: len(names)]
    draw_curve(
        names,
        macs,
        scores,
        path,
        metric='top-1',
        dense_macs=4e6,
        dense_score=dense_score,
    )
    with Image.open(path) as picture:
        assert picture.size == (1200, 800)
        assert len(picture.convert('L').getcolors()) > 10
