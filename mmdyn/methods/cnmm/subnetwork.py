"""The forward pass of some functions of a mixture model, for some of its outputs.

Adaptative Inference Cost With Convolutional Neural Mixture Models, Ruiz, Verbeek, ICCV
2019, Eq. 7.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from mmdyn.methods.cnmm.fan_out import FanOut
from mmdyn.methods.cnmm.graph import Function
from mmdyn.models.stages import Stage, Walk


class Subnetwork:
    """Some functions of a mixture model, computed only as far as an output needs them.

    The state between its stages is a dict: ``held``, the mixtures h^s of incomplete
    nodes, and ``active``, maps of complete nodes after norm and ReLU, both by node, and
    ``weights``, the mixing weights of this forward pass, by function.

    Args:
        model (CNMM): The model, whose weights are used.
        functions (Sequence[Function]): Functions on paths from node 0 to the outputs.
        outputs (Sequence[int]): Nodes whose features are asked for.
        lazy (bool): Postpone functions that only later outputs need.
    """

    def __init__(
        self,
        model: nn.Module,
        functions: Sequence[Function],
        outputs: Sequence[int],
        lazy: bool = False,
    ):
        self.model = model
        self.functions = frozenset(functions)
        self.outputs = tuple(outputs)
        self.lazy = lazy
        self.fan_outs = {t: self._fan_outs_of(t) for t, _ in self.functions}

    def _fan_outs_of(self, node: int) -> list[tuple[FanOut, list[int]]]:
        """The convolutions of a node's functions, with the nodes that these lead to."""
        return [
            (fan_out, targets)
            for fan_out in self.model.fan_outs[str(node)].values()
            if (targets := [s for s in fan_out.targets if (node, s) in self.functions])
        ]

    def __call__(self, images: Tensor) -> tuple[Tensor, ...]:
        """Compute the features (N, C, H, W) of each output from images."""
        return tuple(Walk([[stage] for stage in self.stages()], images))

    def stages(self) -> list[Stage]:
        """A stage for each output, from images or the state of the output before it."""
        model = self.model
        steps = [self._start] + [
            partial(self._continue, node=node, last=last)
            for last, node in zip(self.outputs, self.outputs[1:])
        ]
        return [
            Stage(
                step,
                model.out_width(node),
                model.strides[node],
                partial(self._features, node=node),
            )
            for step, node in zip(steps, self.outputs)
        ]

    def _features(self, state: dict, node: int) -> Tensor:
        return self.model.project(node, state['active'][node])

    def _start(self, images: Tensor) -> dict:
        """Compute the nodes up to the first output."""
        state = dict(
            held={0: self.model.stem(images)},
            active={},
            weights=self.model.draw_mixing_weights(len(images)),
        )
        return self._complete(state, range(self.outputs[0] + 1))

    def _continue(self, state: dict, node: int, last: int) -> dict:
        """Compute the nodes behind output ``last`` up to output ``node``."""
        state = {name: dict(tensors) for name, tensors in state.items()}
        nodes = range(last + 1, node + 1)
        if self.lazy:
            for t in state['active']:
                self._run_functions(t, state, nodes)
        return self._complete(state, nodes)

    def _complete(self, state: dict, nodes: range) -> dict:
        """Complete some nodes, given all contributions of the nodes before them."""
        held, active = state['held'], state['active']
        output = nodes[-1]
        horizon = output if self.lazy else self.outputs[-1]
        for t in nodes:
            if t not in held:  # no function leads there
                continue
            x = self.model.norms[str(t)](held.pop(t))
            active[t] = nn.functional.relu(x, inplace=True)
            self._run_functions(t, state, range(t + 1, horizon + 1))
        state['active'] = {
            t: x for t, x in active.items() if t == output or self._serves(t, output)
        }
        return state

    def _serves(self, node: int, output: int) -> bool:
        """Whether functions of a node are postponed to later outputs."""
        return self.lazy and any(t == node and s > output for t, s in self.functions)

    def _run_functions(self, t: int, state: dict, nodes: range) -> None:
        """Run the functions from node t to some nodes and mix their outputs in."""
        held, weights = state['held'], state['weights']
        for fan_out, targets in self.fan_outs.get(t, ()):
            wanted = [s for s in targets if s in nodes]
            if not wanted:
                continue
            for s, value in zip(wanted, fan_out(state['active'][t], wanted)):
                held[s] = _mix(held.get(s), value, weights.get((t, s)))


def _mix(held: Tensor | None, value: Tensor, weight: Tensor | None) -> Tensor:
    """Eq. 7: with weight π, a function's output replaces the content of its node.

    Without a weight, in a deterministic sum, it is added.
    """
    if held is None:
        return value
    if weight is None:
        return held + value
    return torch.lerp(held, value, weight.to(value.dtype))
