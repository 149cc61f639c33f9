"""Nodes and functions of a mixture model, without tensors: CNMM, Ruiz, Verbeek.

A function (t, s) leads from node t to a later node s. For each node one function that
leads to it is chosen at random, so the function before the node before … makes one chain
from node 0: one network of the mixture.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from numbers import Integral

from mmdyn.utils.validation import check_out_indices

Function = tuple[int, int]
Functions = tuple[Function, ...]
Weights = dict[Function, float]

RANKINGS = ('usage', 'mixing_weight')


def all_functions(scales: Sequence[int]) -> Functions:
    """Functions from each node to all later ones that are not finer, in order."""
    return tuple(
        (t, s)
        for t in range(len(scales))
        for s in range(t + 1, len(scales))
        if scales[t] <= scales[s]
    )


def live_functions(functions: Iterable[Function], outputs: Sequence[int]) -> Functions:
    """The functions on paths from node 0 to outputs, in order; others are dead.

    An output without a path is refused by a ``ValueError``.
    """
    reached, fed = {0}, []
    for t, s in sorted(functions):
        if t in reached:
            reached.add(s)
            fed.append((t, s))
    for output in outputs:
        if output not in reached:
            sources = sorted(t for t, s in functions if s == output)
            rest = f'from nodes {sources}, which nothing reaches' if sources else 'gone'
            raise ValueError(
                f'no path from the input leads to node {output}: its functions are {rest}'
            )
    needed, live = set(outputs), []
    for t, s in reversed(fed):
        if s in needed:
            needed.add(t)
            live.append((t, s))
    return tuple(reversed(live))


def checked_scales(scales: Sequence[int], num_scales: int) -> tuple[int, ...]:
    if not isinstance(scales, Sequence):
        raise ValueError(f'scales must be a sequence, got {scales!r}')
    scales = tuple(scales)
    if len(scales) < 3:
        raise ValueError(f'scales must give 3 nodes or more (T ≥ 2), got {scales}')
    if not all(isinstance(k, Integral) and 0 <= k < num_scales for k in scales):
        raise ValueError(
            f'scales must lie in 0…{num_scales - 1}, places in channels, got {scales}'
        )
    if scales[0] != 0:
        raise ValueError(f'node 0 must be of the finest scale, 0, got scales {scales}')
    return scales


def checked_functions(
    scales: Sequence[int], out_indices: Sequence[int] | None
) -> tuple[tuple[int, ...], Functions]:
    """The nodes that are outputs, and the functions on paths to them."""
    last = len(scales) - 1
    outputs = check_out_indices(out_indices, last)
    if list(outputs) != sorted(set(outputs)) or outputs[-1] != last:
        raise ValueError(
            f'out_indices must rise and end with the last node, {last}, got {outputs}'
        )
    functions = live_functions(all_functions(scales), outputs)
    unused = sorted({*range(last)} - {t for t, _ in functions} - {*outputs})
    if unused:
        raise ValueError(
            f'no function leads from nodes {unused} to an output: all later nodes are '
            f'finer; got scales {scales} and out_indices {outputs}'
        )
    return outputs, functions


def selection_probabilities(mixing_weights: Weights) -> Weights:
    """Probability w_t^s = π_t^s Π_{r>t} (1 − π_r^s) that node s uses function (t, s).

    The first function to a node replaces nothing, so its π counts as 1.
    """
    first = {s: t for t, s in sorted(mixing_weights, reverse=True)}
    probabilities, not_replaced = {}, dict.fromkeys(first, 1.0)
    for t, s in sorted(mixing_weights, reverse=True):
        weight = 1.0 if first[s] == t else mixing_weights[t, s]
        probabilities[t, s] = weight * not_replaced[s]
        not_replaced[s] *= 1 - weight
    return probabilities


def usage_probabilities(mixing_weights: Weights, outputs: Sequence[int]) -> Weights:
    """Probability of each function to be on the chain to an output.

    That is w_t^s times the probability that the chain contains node s; outputs are
    equally likely.
    """
    met = defaultdict(float, dict.fromkeys(outputs, 1 / len(outputs)))
    probabilities = selection_probabilities(mixing_weights)
    usage = {}
    for t, s in sorted(probabilities, key=lambda function: -function[1]):
        usage[t, s] = probabilities[t, s] * met[s]
        met[t] += usage[t, s]
    return usage


def pruning_sequence(
    mixing_weights: Weights, outputs: Sequence[int], ranking: str
) -> list[Functions]:
    """The remaining functions, from all live ones to the fewest that reach each output.

    Each step removes the least important one and those that are dead without it (section
    3.3). Importance is π or, for ``'usage'``, the probability of use.
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
