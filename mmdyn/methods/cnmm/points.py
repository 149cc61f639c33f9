"""Operating points of a mixture model, and the subnetworks that run at them."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from torch import nn

from mmdyn.methods.cnmm.graph import RANKINGS, Functions, live_functions, pruning_sequence
from mmdyn.methods.cnmm.subnetwork import Subnetwork
from mmdyn.models.searchable import Searchable
from mmdyn.operating_point import DENSE, OperatingPoint
from mmdyn.utils.validation import check_between, check_choice


class MixturePoints(Searchable):
    """The part of a CNMM that runs subnetworks at the points ``keep=K`` and ``dense``.

    Subnetworks are kept until γ changes.
    """

    # Functions lead from each part to all later ones.
    trains_stage_wise = False

    def __init__(self, *args):
        super().__init__(*args)
        self._cache: dict[tuple, Subnetwork] = {}
        self._gamma_version = 0

    def set_keep(self, keep: Sequence[int]) -> None:
        if not isinstance(keep, Sequence) or len(set(keep)) < len(keep):
            raise ValueError(f'keep must be a sequence of different numbers, got {keep}')
        for number in keep:
            self.check_settings(dict(keep=number))
        self.keep = tuple(keep)

    @property
    def operating_points(self) -> tuple[OperatingPoint, ...]:
        return (*map(self.pruned_point, self.keep), DENSE, *self.found_points)

    @property
    def dense_operating_point(self) -> OperatingPoint:
        return DENSE

    @property
    def draws(self) -> int:
        return max(1, self.samples)

    def check_settings(self, settings: Mapping[str, Any]) -> None:
        unknown = sorted(set(settings) - {'keep', 'ranking'})
        if unknown:
            raise ValueError(f'a CNMM knows the settings keep and ranking, got {unknown}')
        check_choice('ranking', settings.get('ranking') or self.ranking, RANKINGS)
        if settings.get('keep') is not None:
            if self.deterministic:
                raise ValueError('a deterministic sum has no mixing weights to prune by')
            check_between('keep', settings['keep'], 1, len(self.functions))

    check_exit_settings = check_settings

    def check_runnable(self, point: OperatingPoint) -> None:
        self.subnetwork(**point.settings)

    def stages_for(self, ends, settings=MappingProxyType({}), cut='stage', lazy=False):
        if cut != 'stage':
            return super().stages_for(ends, settings, cut, lazy)
        keep, ranking = settings.get('keep'), settings.get('ranking')
        return [[stage] for stage in self.subnetwork(keep, ranking, ends, lazy).stages()]

    def exit_points(self, ends: Sequence[int]) -> tuple[OperatingPoint, ...]:
        """A point for each ``keep`` and each exit that has more functions.

        They replace the backbone's own points, which an early exit does not need.
        """
        numbers, self.keep = self.keep, ()
        return tuple(
            self.pruned_point(keep, exit)
            for exit, end in enumerate(ends, 1)
            for keep in numbers
            if keep < len(self.subnetwork(stages=[end]).functions)
        )

    def pruned_point(
        self, keep: int, exit: int | None = None, ranking: str | None = None
    ) -> OperatingPoint:
        """The point of ``keep`` functions at most, like ``'exit=2,keep=20'``.

        A ranking that is not the model's own is part of the name.
        """
        settings = dict(exit=exit, keep=keep, ranking=ranking or self.ranking)
        if exit is None:
            del settings['exit']
        implied = 'ranking', self.ranking
        named = [f'{k}={value}' for k, value in settings.items() if (k, value) != implied]
        return OperatingPoint(','.join(named), settings)

    def pruning_sequence(
        self, stages: Sequence[int] | None = None, ranking: str | None = None
    ) -> list[Functions]:
        """The remaining functions as they are removed one after another.

        ``stages`` are the numbers (from 1) of the outputs that are asked for, ``None``
        all. A deterministic sum cannot be pruned.
        """
        outputs, ranking = self._outputs(stages), ranking or self.ranking
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

        Changes to ``.data`` of γ go unnoticed until ``eval()`` or ``train()`` is called.

        Args:
            keep (int | None): Number of functions that run, at most; ``None``: all.
            ranking (str | None): One of ``RANKINGS``; ``None``: the model's own.
            stages (Sequence[int] | None): As of :meth:`pruning_sequence`.
            lazy (bool): Postpone functions that only later outputs need: more
                convolutions for the same MACs, and fewer MACs for samples that exit.

        Raises:
            ValueError: For more functions than there are, or too few for an output.
        """
        self._clear_if_outdated()
        key = keep, ranking, stages if stages is None else tuple(stages), lazy
        if key not in self._cache:
            self.check_settings(dict(keep=keep, ranking=ranking))
            outputs = self._outputs(stages)
            functions = live_functions(self.functions, outputs)
            if keep is not None:
                functions = self._most_important(keep, ranking or self.ranking, stages)
            self._cache[key] = Subnetwork(self, frozenset(functions), outputs, lazy)
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

    def _most_important(self, keep, ranking, stages) -> Functions:
        self.check_settings(dict(keep=keep))
        for functions in self.pruning_sequence(stages, ranking):
            if len(functions) <= keep:
                return functions
        raise ValueError(
            f'keep={keep} would leave an output without a path from the input: the last '
            f'{len(functions)} functions by {ranking} that lead to nodes '
            f'{self._outputs(stages)} are {functions}'
        )

    def train(self, mode: bool = True):
        self._cache.clear()  # changes to .data raise no version
        return super().train(mode)

    def _outputs(self, stages: Sequence[int] | None) -> tuple[int, ...]:
        """Nodes of some outputs, given by their numbers."""
        if stages is None:
            return self.out_indices
        last = len(self.out_indices)
        if not stages or list(stages) != sorted({*stages} & {*range(1, last + 1)}):
            raise ValueError(f'stages must be rising numbers in 1…{last}, got {stages}')
        return tuple(self.out_indices[number - 1] for number in stages)
