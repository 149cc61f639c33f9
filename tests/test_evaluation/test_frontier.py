import random

import pytest

from mmdyn.evaluation.frontier import best_within, spread_over_cost

COSTS = [9.0, 1.0, 4.0, 4.0, 6.0, 8.0]
SCORES = [90.0, 50.0, 70.0, 60.0, 65.0, 80.0]


def test_best_within_budgets():
    found = best_within([0.5, 1.0, 5.0, 8.5, 20.0], COSTS, SCORES)
    assert found.tolist() == [float('-inf'), 50, 70, 80, 90]


def test_all_of_a_small_envelope_are_chosen():
    assert spread_over_cost(COSTS, SCORES, 100) == [1, 2, 5, 0]


@pytest.mark.parametrize('number', [2, 3, 7])
def test_chosen_are_the_best_within_even_budgets(number):
    rng = random.Random(number)
    for _ in range(50):
        costs = [rng.randint(1, 30) for _ in range(20)]
        scores = [rng.randint(0, 30) for _ in range(20)]
        chosen = spread_over_cost(costs, scores, number)
        # From the cheapest cost on, and to the cheapest of the highest score.
        lowest = min(costs)
        highest = min(c for c, s in zip(costs, scores) if s == max(scores))
        step = (highest - lowest) / (number - 1)
        budgets = [lowest + i * step + 1e-9 for i in range(number)]
        best = {max(s for c, s in zip(costs, scores) if c <= b) for b in budgets}
        assert {scores[i] for i in chosen} == best
        assert [costs[i] for i in chosen] == sorted({costs[i] for i in chosen})
        assert len(chosen) <= number
