"""Operating points of a mixture model: subnetworks of its functions."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from mmdyn.methods.cnmm.pruning import RANKINGS
from mmdyn.methods.cnmm.subnetworks import Subnetworks
from mmdyn.models.searchable import Searchable
from mmdyn.operating_point import DENSE, OperatingPoint
from mmdyn.utils.validation import check_between, check_choice


class MixturePoints(Subnetworks, Searchable):
    """Base of mixture models that run at the points ``keep=K`` and ``dense``.

    Attributes:
        keep (tuple[int, ...]): Numbers of functions of the operating points.
        samples (int): Draws of the mixing weights in inference.
    """

    # Functions lead from each part to all later ones.
    trains_stage_wise = False

    def set_keep(self, keep: Sequence[int]) -> None:
        if not isinstance(keep, Sequence) or len(set(keep)) < len(keep):
            raise ValueError(f'keep must be a sequence of different numbers, got {keep}')
        for number in keep:
            self.check_settings(dict(keep=number))
        self.keep = tuple(keep)

    @property
    def operating_points(self) -> tuple[OperatingPoint, ...]:
        pruned = tuple(self.pruned_point(number) for number in self.keep)
        return (*pruned, DENSE, *self.found_points)

    @property
    def dense_operating_point(self) -> OperatingPoint:
        return DENSE

    @property
    def draws(self) -> int:
        return max(1, self.samples)

    def check_settings(self, settings: Mapping[str, Any]) -> None:
        unknown = set(settings) - {'keep', 'ranking'}
        if unknown:
            raise ValueError(
                f"a CNMM knows the settings 'keep' and 'ranking', got {sorted(unknown)}"
            )
        if settings.get('ranking') is not None:
            check_choice('ranking', settings['ranking'], RANKINGS)
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
        subnetwork = self.subnetwork(
            settings.get('keep'), settings.get('ranking'), ends, lazy
        )
        return [[stage] for stage in subnetwork.stages()]

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
        """The point of ``keep`` functions at most, and of an exit, if there are any.

        It is named like ``'exit=2,keep=20'``; a ranking that is not the model's own is
        part of the name.
        """
        settings = dict(keep=keep, ranking=ranking or self.ranking)
        name = f'keep={keep}'
        if exit is not None:
            settings['exit'] = exit
            name = f'exit={exit},{name}'
        if settings['ranking'] != self.ranking:
            name = f'{name},ranking={ranking}'
        return OperatingPoint(name, settings)
