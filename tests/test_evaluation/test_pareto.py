import random

from mmdyn.evaluation.pareto import pareto_mask


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
