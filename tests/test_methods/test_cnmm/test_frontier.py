import numpy as np
import pytest

from mmdyn.methods.cnmm.frontier import best_within, thin_envelope

COSTS = [9.0, 1.0, 4.0, 4.0, 6.0, 8.0]
SCORES = [90.0, 50.0, 70.0, 60.0, 65.0, 80.0]


def test_best_within_budgets():
    found = best_within([0.5, 1.0, 5.0, 8.5, 20.0], COSTS, SCORES)
    assert found.tolist() == [float('-inf'), 50, 70, 80, 90]


def test_all_of_a_small_envelope_are_chosen():
    assert thin_envelope(COSTS, SCORES, 100) == [1, 2, 5, 0]


def area(places, costs, scores):
    """Area below the envelope of some points, on a fine grid."""
    budgets = np.linspace(min(costs), max(costs), 5000)
    chosen = [costs[i] for i in places], [scores[i] for i in places]
    return best_within(budgets, *chosen).mean()


def test_the_point_that_goes_is_the_one_missed_least():
    rng = np.random.default_rng(0)
    for _ in range(20):
        costs, scores = rng.random(30).tolist(), rng.random(30).tolist()
        whole = thin_envelope(costs, scores, 30)
        if len(whole) < 4:
            continue
        found = thin_envelope(costs, scores, len(whole) - 1)
        rivals = [whole[:i] + whole[i + 1 :] for i in range(1, len(whole) - 1)]
        best = max(area(rival, costs, scores) for rival in rivals)
        assert area(found, costs, scores) == pytest.approx(best, abs=1e-3)


@pytest.mark.parametrize('number', [2, 3, 5])
def test_cheapest_and_best_always_stay(number):
    rng = np.random.default_rng(number)
    for _ in range(20):
        costs = rng.integers(1, 30, 40).tolist()
        scores = rng.integers(1, 30, 40).tolist()
        found = thin_envelope(costs, scores, number)
        assert len(found) <= number
        assert costs[found[0]] == min(costs)
        assert scores[found[-1]] == max(scores)
        assert [scores[i] for i in found] == sorted({scores[i] for i in found})
        assert set(found) <= set(thin_envelope(costs, scores, 100))
