"""The nodes and functions of a convolutional neural mixture model, without tensors.

Adaptative Inference Cost With Convolutional Neural Mixture Models, Ruiz, Verbeek, ICCV
2019. A function (t, s) leads from node t to a later node s. For each node one function
that leads to it is chosen at random, so the function before the node before … makes one
chain from node 0: one network of the mixture.
"""

from collections.abc import Iterable, Mapping, Sequence

Function = tuple[int, int]


def all_functions(scales: Sequence[int]) -> tuple[Function, ...]:
    """Functions (t, s) from each node to all later ones but finer ones, in order.

    ``scales`` are those of the nodes, 0 being the finest.
    """
    return tuple(
        (t, s)
        for t in range(len(scales))
        for s in range(t + 1, len(scales))
        if scales[t] <= scales[s]
    )


def live_functions(
    functions: Iterable[Function], outputs: Sequence[int]
) -> tuple[Function, ...]:
    """The functions on paths from node 0 to outputs, in order; others are dead.

    Raises:
        ValueError: If no path leads to an output.
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


def selection_probabilities(
    mixing_weights: Mapping[Function, float],
) -> dict[Function, float]:
    """Probability of each function to be the one that its node uses, given each π.

    That is w_t^s = π_t^s Π_{r>t} (1 − π_r^s): each later function to the same node
    replaces it with the probability of its own mixing weight. The first one to a node
    replaces nothing, so its π counts as 1. They add up to 1 for each node.
    """
    first: dict[int, int] = {}
    for t, s in sorted(mixing_weights):
        first.setdefault(s, t)
    probabilities = {}
    not_replaced: dict[int, float] = {}
    for t, s in sorted(mixing_weights, reverse=True):
        weight = 1.0 if first[s] == t else mixing_weights[t, s]
        probabilities[t, s] = weight * not_replaced.get(s, 1.0)
        not_replaced[s] = not_replaced.get(s, 1.0) * (1 - weight)
    return probabilities


def usage_probabilities(
    mixing_weights: Mapping[Function, float], outputs: Sequence[int]
) -> dict[Function, float]:
    """Probability of each function to be on the chain that leads to an output.

    That is w_t^s times the probability that the chain contains node s, each of the
    ``outputs`` being equally likely.
    """
    met = {output: 1 / len(outputs) for output in outputs}
    probabilities = selection_probabilities(mixing_weights)
    usage = {}
    for t, s in sorted(probabilities, key=lambda function: -function[1]):
        usage[t, s] = probabilities[t, s] * met.get(s, 0.0)
        met[t] = met.get(t, 0.0) + usage[t, s]
    return usage
