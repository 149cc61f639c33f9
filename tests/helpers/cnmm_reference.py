"""A mixture of convolutional networks the slow way: one function, one chain at a time."""

from torch import Tensor, nn


def chains(functions, output) -> list[tuple]:
    """All ways from node 0 to a node, each a tuple of functions."""
    if output == 0:
        return [()]
    return [
        (*chain, (t, s))
        for t, s in functions
        if s == output
        for chain in chains(functions, t)
    ]


def chain_probability(chain, functions, mixing_weights) -> float:
    """Probability that each node of a chain uses the function that the chain has.

    The function (t, s) is used if it replaces what was there, and none behind it does;
    the first one is there from the start.
    """
    probability = 1.0
    for t, s in chain:
        sources = sorted(r for r, node in functions if node == s)
        if t != sources[0]:
            probability *= mixing_weights[t, s]
        for r in sources:
            if r > t:
                probability *= 1 - mixing_weights[r, s]
    return probability


def run_function(model, t: int, s: int, x: Tensor) -> Tensor:
    """One function of a CNMM on the map of its node, behind norm and ReLU."""
    octaves = model.scales[s] - model.scales[t]
    fan_out = model.fan_outs[str(t)][f'scale{model.scales[s]}']
    place = fan_out.targets.index(s)
    width = model.channels[model.scales[s]]
    weight = fan_out.conv.weight[place * width : (place + 1) * width]
    if octaves > 1:
        x = nn.functional.avg_pool2d(x, 2 ** (octaves - 1), ceil_mode=True)
    return nn.functional.conv2d(x, weight, stride=2 if octaves else 1, padding=1)


def run_recursion(model, functions, mixing_weights, images: Tensor) -> dict[int, Tensor]:
    """Eq. 7, function by function; what a node holds first takes the place of nothing."""
    held = {0: model.stem(images)}
    features = {}
    for node in range(len(model.scales)):
        if node not in held:
            continue
        features[node] = model.norms[str(node)](held[node]).relu()
        for t, s in functions:
            if t != node:
                continue
            value, weight = run_function(model, t, s, features[node]), mixing_weights
            if s in held:
                value = weight[t, s] * value + (1 - weight[t, s]) * held[s]
            held[s] = value
    return features


def analytic_macs(model, functions, height: int, width: int) -> int:
    """MACs of the stem's 3×3 convolution and of some functions."""
    stem = model.stem
    total = stem.in_channels * stem.out_channels * 9 * height * width
    for t, s in functions:
        rows, columns = height, width
        for _ in range(model.scales[s]):
            rows, columns = -(-rows // 2), -(-columns // 2)
        inputs, outputs = (model.channels[model.scales[n]] for n in (t, s))
        total += inputs * outputs * 9 * rows * columns
    return total
