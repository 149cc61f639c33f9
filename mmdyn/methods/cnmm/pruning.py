"""Pruning of a mixture model: the functions that remain as others are removed.

Adaptative Inference Cost With Convolutional Neural Mixture Models, Ruiz, Verbeek, ICCV
2019, section 3.3.
"""

from collections.abc import Mapping, Sequence

from mmdyn.methods.cnmm.graph import Function, live_functions, usage_probabilities

RANKINGS = ('usage', 'mixing_weight')


def pruning_sequence(
    mixing_weights: Mapping[Function, float], outputs: Sequence[int], ranking: str
) -> list[tuple[Function, ...]]:
    """The remaining functions, from all live ones to the fewest that reach each output.

    Each step removes the least important one, and those that are dead without it. The
    importance of a function is its π or, for ``'usage'``, the probability that a chain to
    the outputs contains it.
    """
    sequence = [live_functions(mixing_weights, outputs)]
    while len(sequence[-1]) > 1:
        importance = {f: mixing_weights[f] for f in sequence[-1]}
        if ranking == 'usage':
            importance = usage_probabilities(importance, outputs)
        kept = set(importance) - {min(sequence[-1], key=importance.get)}
        try:
            sequence.append(live_functions(kept, outputs))
        except ValueError:  # an output has no path left
            break
    return sequence


def most_important(
    sequence: Sequence[tuple[Function, ...]], keep: int, ranking: str, outputs: tuple
) -> tuple[Function, ...]:
    """The first element of a pruning sequence with ``keep`` functions at most.

    Raises:
        ValueError: If so few functions leave an output without a path from the input.
    """
    for functions in sequence:
        if len(functions) <= keep:
            return functions
    raise ValueError(
        f'keep={keep} would leave an output without a path from the input: the last '
        f'{len(sequence[-1])} functions by {ranking} that lead to nodes {outputs} are '
        f'{sequence[-1]}'
    )
