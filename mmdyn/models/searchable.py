"""Modules whose operating points can be searched after training."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmdyn.operating_point import DynamicModule, OperatingPoint


class Searchable(DynamicModule):
    """A dynamic module that also offers points found by a search.

    Attributes:
        found_points (tuple[OperatingPoint, ...]): The found points; a subclass lists
            them among its :attr:`operating_points`.
    """

    found_points: tuple[OperatingPoint, ...] = ()

    def check_settings(self, settings: Mapping[str, Any]) -> None:
        """Refuse, by a ``ValueError``, settings that no weights of it could run at."""
        raise NotImplementedError

    def offer_points(self, points: Sequence[OperatingPoint]) -> None:
        """Offer points that a search found, in place of those found before.

        Args:
            points (Sequence[OperatingPoint]): The points; the module's own may be among
                them.

        Raises:
            ValueError: For settings that cannot be the module's, or a name that belongs
                to a point with other settings.
        """
        own = {p.name: p for p in self.operating_points if p not in self.found_points}
        new = []
        for point in points:
            self.check_settings(point.settings)
            if point.name not in own:
                own[point.name] = point
                new.append(point)
            elif own[point.name] != point:
                raise ValueError(f'there is another operating point {point.name!r}')
        self.found_points = tuple(new)
        if self._operating_point not in self.operating_points:
            self._operating_point = None  # it was one of those found before
