"""Subnetworks of a mixture model, found by pruning and kept until γ changes."""

from collections.abc import Sequence

from torch import nn

from mmdyn.methods.cnmm.graph import Function, live_functions
from mmdyn.methods.cnmm.pruning import RANKINGS, most_important, pruning_sequence
from mmdyn.methods.cnmm.subnetwork import Subnetwork
from mmdyn.utils.validation import check_choice


class Subnetworks:
    """Mixin for a mixture model that gives it subnetworks.

    Attributes:
        functions (tuple[Function, ...]): All functions.
        out_indices (tuple[int, ...]): Nodes whose features are returned.
        deterministic (bool): Whether there are no mixing weights.
        ranking (str): Importance of functions, one of ``RANKINGS``.
        gamma (nn.Parameter): Logits of the mixing weights, unless deterministic.
    """

    def __init__(self, *args):
        super().__init__(*args)
        self._cache: dict[tuple, Subnetwork] = {}
        self._gamma_version = 0

    @property
    def mixed(self) -> tuple[Function, ...]:
        """The functions that have mixing weights: those from later nodes than 0."""
        return tuple(function for function in self.functions if function[0] > 0)

    def mixing_weights(self) -> dict[Function, float]:
        """π of each function; 1 from node 0, where each mixture starts."""
        weights = dict.fromkeys(self.functions, 1.0)
        if not self.deterministic:
            weights.update(zip(self.mixed, self.gamma.detach().sigmoid().tolist()))
        return weights

    def pruning_sequence(
        self, stages: Sequence[int] | None = None, ranking: str | None = None
    ) -> list[tuple[Function, ...]]:
        """The remaining functions as they are removed one after another.

        Args:
            stages (Sequence[int] | None): Numbers (from 1) of the outputs, in the order
                of ``out_indices``, whose features are asked for; ``None``: all.
            ranking (str | None): One of ``RANKINGS``; ``None``: the model's own.

        Returns:
            list[tuple[Function, ...]]: From all functions to the fewest that still lead
            from the input to each output. A deterministic sum cannot be pruned.

        Raises:
            ValueError: For an output or a ranking that does not exist.
        """
        outputs = self._outputs(stages)
        ranking = ranking or self.ranking
        check_choice('ranking', ranking, RANKINGS)
        if self.deterministic:
            return [live_functions(self.functions, outputs)]
        return pruning_sequence(self.mixing_weights(), outputs, ranking)

    def subnetwork(
        self,
        keep: int | None = None,
        ranking: str | None = None,
        stages: Sequence[int] | None = None,
        lazy: bool = False,
    ) -> Subnetwork:
        """The part of the model that some outputs need; it shares the weights.

        After changes to ``.data`` of γ, which go unnoticed, call ``eval()`` or
        ``train()`` first.

        Args:
            keep (int | None): How many functions run, at most; ``None``: all that lead to
                the outputs.
            ranking (str | None): As of :meth:`pruning_sequence`.
            stages (Sequence[int] | None): As of :meth:`pruning_sequence`.
            lazy (bool): Postpone functions that only later outputs need: more
                convolutions for the same MACs, and fewer MACs for samples that exit.

        Raises:
            ValueError: If there are not so many functions, or so few would leave an
                output without a path from the input.
        """
        stages = None if stages is None else tuple(stages)
        self._clear_if_outdated()
        key = keep, ranking, stages, lazy
        if key not in self._cache:
            self._cache[key] = self._build_subnetwork(*key)
        return self._cache[key]

    def _clear_if_outdated(self) -> None:
        """Clear the cache if γ, the only input of pruning, was changed in place."""
        # In exports γ is a stand-in without values: the latest subnetworks hold.
        if self.deterministic or type(self.gamma) is not nn.Parameter:
            return
        version = 0 if self.gamma.is_inference() else self.gamma._version
        if version != self._gamma_version:
            self._cache.clear()
            self._gamma_version = version

    def _build_subnetwork(self, keep, ranking, stages, lazy) -> Subnetwork:
        outputs = self._outputs(stages)
        self.check_settings(dict(keep=keep, ranking=ranking))
        functions = live_functions(self.functions, outputs)
        if keep is not None:
            sequence = self.pruning_sequence(stages, ranking)
            functions = most_important(sequence, keep, ranking or self.ranking, outputs)
        return Subnetwork(self, functions, outputs, lazy)

    def train(self, mode: bool = True):
        self._cache.clear()  # changes to .data raise no version
        return super().train(mode)

    def _outputs(self, stages: Sequence[int] | None) -> tuple[int, ...]:
        """Nodes of some outputs, given by their numbers."""
        if stages is None:
            return self.out_indices
        rises = list(stages) == sorted(set(stages))
        number = len(self.out_indices)
        if not (stages and rises and stages[0] >= 1 and stages[-1] <= number):
            raise ValueError(
                f'stages must be rising numbers in 1…{number}, got {list(stages)}'
            )
        return tuple(self.out_indices[number - 1] for number in stages)
