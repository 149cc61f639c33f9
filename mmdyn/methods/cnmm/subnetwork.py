"""Forward pass of some functions for some outputs: CNMM, Ruiz, Verbeek, Eq. 7."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from mmdyn.methods.cnmm.graph import Function
from mmdyn.models.stages import Stage, Walk


@dataclass(eq=False)
class Subnetwork:
    """Some functions of a mixture model, computed only as far as an output needs them.

    The state between its stages is a dict: ``held``, the mixtures h^s of incomplete
    nodes, and ``active``, maps of complete nodes after norm and ReLU, both by node, and
    ``weights``, the mixing weights of this forward pass, by function.

    Args:
        model (CNMM): The model, whose weights are used.
        functions (frozenset[Function]): Functions on paths from node 0 to the outputs.
        outputs (tuple[int, ...]): Nodes whose features are asked for.
        lazy (bool): Postpone functions that only later outputs need.
    """

    model: nn.Module
    functions: frozenset[Function]
    outputs: tuple[int, ...]
    lazy: bool

    def __call__(self, images: Tensor) -> tuple[Tensor, ...]:
        """Features (N, C, H, W) of each output."""
        return tuple(Walk([[stage] for stage in self.stages()], images))

    def stages(self) -> list[Stage]:
        """A stage for each output, from images or the state of the output before it."""
        return [
            Stage(
                partial(self._run, nodes=range(last + 1, node + 1)),
                self.model.out_widths[node],
                self.model.strides[node],
                partial(self._features, node=node),
            )
            for last, node in zip((-1, *self.outputs), self.outputs)
        ]

    def _features(self, state: dict, node: int) -> Tensor:
        features, projections = state['active'][node], self.model.projections
        return projections[str(node)](features) if str(node) in projections else features

    def _run(self, state: Tensor | dict, nodes: range) -> dict:
        """The state at the last of some nodes, from images or the state before them."""
        if nodes[0] == 0:
            weights = self.model.draw_mixing_weights(len(state))
            state = dict(held={0: self.model.stem(state)}, active={}, weights=weights)
        state = {name: dict(tensors) for name, tensors in state.items()}
        held, active = state['held'], state['active']
        output = nodes[-1]
        horizon = output if self.lazy else self.outputs[-1]
        for t in active if self.lazy else ():  # what was postponed
            self._run_functions(t, state, nodes)
        for t in nodes:
            if t in held:  # else no function leads there
                x = self.model.norms[str(t)](held.pop(t))
                active[t] = nn.functional.relu(x, inplace=True)
                self._run_functions(t, state, range(t + 1, horizon + 1))
        postponed = {t for t, s in self.functions if self.lazy and s > output}
        state['active'] = {t: x for t, x in active.items() if t in postponed | {output}}
        return state

    def _run_functions(self, t: int, state: dict, nodes: range) -> None:
        """Run the functions from node t to some nodes and mix their outputs in."""
        held, weights = state['held'], state['weights']
        wanted = {s for s in nodes if (t, s) in self.functions}
        for fan_out in self.model.fan_outs[str(t)].values():
            if targets := [s for s in fan_out.targets if s in wanted]:
                for s, value in zip(targets, fan_out(state['active'][t], targets)):
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
