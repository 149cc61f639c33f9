"""Running some functions of a mixture model, for some of its outputs.

Adaptative Inference Cost With Convolutional Neural Mixture Models, Ruiz, Verbeek, ICCV
2019, Eq. 7.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .fan_out import FanOut
from .mixture_graph import Function

__all__ = ['Subnetwork', 'SubnetworkPart']


class SubnetworkPart(NamedTuple):
    """What a subnetwork computes from one output to the next.

    Args:
        forward (Callable): Maps the state before to the state after, images in the first
            part. A state holds the maps that later parts need, by node.
        node (int): The node of the output.
    """

    forward: Callable[[Tensor | dict], dict]
    node: int

    def features(self, state: dict) -> Tensor:
        """The output's features, given the state after this part."""
        return state['active'][self.node]


class Subnetwork:
    """Some functions of a mixture model; what is not asked for is not computed.

    Args:
        model (CNMM): Whose functions they are.
        functions (Sequence[Function]): Functions on paths from node 0 to the outputs.
        outputs (Sequence[int]): Nodes whose features are asked for.
        lazily (bool): Leave functions that only later outputs need until these are
            asked for.
    """

    def __init__(
        self,
        model: nn.Module,
        functions: Sequence[Function],
        outputs: Sequence[int],
        lazily: bool = False,
    ):
        self.model = model
        self.functions = frozenset(functions)
        self.outputs = tuple(outputs)
        self.lazily = lazily
        self.fan_outs = {t: self._fan_outs_of(t) for t, _ in self.functions}

    def _fan_outs_of(self, node: int) -> list[tuple[FanOut, list[int]]]:
        """The convolutions that run a node's functions, with the nodes these lead to."""
        return [
            (fan_out, targets)
            for fan_out in self.model.fan_outs[str(node)].values()
            if (targets := [s for s in fan_out.targets if (node, s) in self.functions])
        ]

    def __call__(self, images: Tensor) -> tuple[Tensor, ...]:
        """Compute the features (N, C, H, W) of each output from images."""
        state, features = images, []
        for part in self.parts():
            state = part.forward(state)
            features.append(part.features(state))
        return tuple(features)

    def parts(self) -> list[SubnetworkPart]:
        """The parts of one forward pass, one for each output.

        The mixing weights that the first part draws hold for the others.
        """
        forward_pass = _ForwardPass(self)
        first = SubnetworkPart(forward_pass.start, self.outputs[0])
        later = [
            SubnetworkPart(partial(forward_pass.go_on, node=node, last=last), node)
            for last, node in zip(self.outputs, self.outputs[1:])
        ]
        return [first, *later]


class _ForwardPass:
    """One forward pass, with its mixing weights.

    Its state is a dict of two: ``held``, the mixtures h^s of nodes that are not complete,
    and ``active``, maps of complete nodes behind norm and ReLU.
    """

    def __init__(self, subnetwork: Subnetwork):
        self.subnetwork = subnetwork
        self.model = subnetwork.model

    def start(self, images: Tensor) -> dict:
        """Compute the nodes up to the first output."""
        if not self.model.deterministic:
            self.weights = self.model.draw_mixing_weights(len(images))
        held = {0: self.model.stem(images)}
        return self._complete(held, {}, range(self.subnetwork.outputs[0] + 1))

    def go_on(self, state: dict, node: int, last: int) -> dict:
        """Compute the nodes up to an output, ``node``, from those up to the one before,
        ``last``."""
        held, active = dict(state['held']), dict(state['active'])
        nodes = range(last + 1, node + 1)
        if self.subnetwork.lazily:
            for t, x in active.items():
                self._run_functions(t, x, held, nodes)
        return self._complete(held, active, nodes)

    def _complete(self, held: dict, active: dict, nodes: range) -> dict:
        """Complete some nodes, given all that leads to them from those before."""
        for t in nodes:
            if t not in held:  # no function leads there
                continue
            x = nn.functional.relu(self.model.norms[str(t)](held.pop(t)), inplace=True)
            active[t] = x
            horizon = nodes[-1] if self.subnetwork.lazily else self.subnetwork.outputs[-1]
            self._run_functions(t, x, held, range(t + 1, horizon + 1))
        output = nodes[-1]
        active = {
            t: x for t, x in active.items() if t == output or self._serves(t, output)
        }
        return dict(held=held, active=active)

    def _serves(self, node: int, output: int) -> bool:
        """Whether functions of a node are left for later outputs."""
        return self.subnetwork.lazily and any(
            t == node and s > output for t, s in self.subnetwork.functions
        )

    def _run_functions(self, t: int, x: Tensor, held: dict, nodes: range) -> None:
        """Run the functions from node t to some nodes and mix in what they give."""
        for fan_out, targets in self.subnetwork.fan_outs.get(t, ()):
            wanted = [s for s in targets if s in nodes]
            if wanted:
                for s, value in zip(wanted, fan_out(x, wanted)):
                    held[s] = self._mix((t, s), held.get(s), value)

    def _mix(self, function: Function, held: Tensor | None, value: Tensor) -> Tensor:
        """Eq. 7: a function's output replaces what its node held, with weight π."""
        if held is None:
            return value
        if self.model.deterministic:
            return held + value
        return torch.lerp(held, value, self.weights[function].to(value.dtype))
