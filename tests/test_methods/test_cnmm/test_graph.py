import math
from itertools import chain as chained

import pytest
from helpers.cnmm_reference import chain_probability, chains
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdyn.methods.cnmm.graph import (
    all_functions,
    live_functions,
    selection_probabilities,
    usage_probabilities,
)


@st.composite
def graphs(draw):
    """Scales of up to six nodes (T ≤ 5), functions between them and their π."""
    scales = [0, *draw(st.lists(st.integers(0, 2), min_size=2, max_size=5))]
    functions = all_functions(scales)
    weights = draw(
        st.lists(st.floats(0, 1), min_size=len(functions), max_size=len(functions))
    )
    return scales, dict(zip(functions, weights))


@pytest.mark.parametrize('last', [2, 5, 9])
def test_every_pair_of_nodes_of_one_scale_has_a_function(last):
    functions = all_functions([0] * (last + 1))
    assert len(functions) == last * (last + 1) / 2
    assert len(chains(functions, last)) == 2 ** (last - 1)


def test_functions_never_lead_to_a_finer_scale():
    assert all_functions([0, 1, 0, 2]) == ((0, 1), (0, 2), (0, 3), (1, 3), (2, 3))


def test_selection_probabilities_by_hand():
    # w_t = π_t Π_{r>t} (1 − π_r)
    found = selection_probabilities({(0, 3): 0.7, (1, 3): 0.5, (2, 3): 0.4})
    expected = {(0, 3): 0.5 * 0.6, (1, 3): 0.5 * 0.6, (2, 3): 0.4}
    assert found == pytest.approx(expected)


@settings(derandomize=True, deadline=None)
@given(graphs())
def test_selection_probabilities_of_a_node_add_up_to_one(graph):
    scales, weights = graph
    found = selection_probabilities(weights)
    for node in range(1, len(scales)):
        assert sum(w for (_, s), w in found.items() if s == node) == pytest.approx(1)


@settings(derandomize=True, deadline=None)
@given(graphs(), st.data())
def test_usage_is_the_sum_over_all_chains(graph, data):
    scales, weights = graph
    nodes = st.sampled_from(range(1, len(scales)))
    outputs = sorted(data.draw(st.sets(nodes, min_size=1)))
    expected = dict.fromkeys(weights, 0.0)
    for output in outputs:
        total = 0.0
        for chain in chains(weights, output):
            probability = chain_probability(chain, weights, weights)
            total += probability
            for function in chain:
                expected[function] += probability / len(outputs)
        assert total == pytest.approx(1)
    found = usage_probabilities(weights, outputs)
    assert found == pytest.approx(expected, abs=1e-12)


@settings(derandomize=True, deadline=None)
@given(graphs(), st.data())
def test_live_functions_are_those_on_a_path(graph, data):
    scales, weights = graph
    kept = sorted(data.draw(st.sets(st.sampled_from(list(weights)))))
    outputs = data.draw(st.sets(st.integers(1, len(scales) - 1), min_size=1))
    paths = {output: chains(kept, output) for output in outputs}
    if not all(paths.values()):
        with pytest.raises(ValueError, match='no path from the input leads to node'):
            live_functions(kept, sorted(outputs))
        return
    on_a_path = set(chained.from_iterable(chained.from_iterable(paths.values())))
    assert live_functions(kept, sorted(outputs)) == tuple(sorted(on_a_path))


def test_an_output_without_a_path_is_refused_with_the_reason():
    with pytest.raises(ValueError, match=r'node 3: its functions are gone'):
        live_functions([(0, 1), (1, 2)], [2, 3])
    with pytest.raises(ValueError, match=r'node 3: .* from nodes \[2\], which nothing'):
        live_functions([(0, 1), (2, 3)], [3])


def test_probabilities_of_what_is_left_still_add_up():
    # Without the first function the next one takes the rest.
    left = {(1, 3): 0.2, (2, 3): 0.25}
    assert selection_probabilities(left) == pytest.approx({(1, 3): 0.75, (2, 3): 0.25})
    assert math.isclose(sum(selection_probabilities(left).values()), 1)
