"""Modules whose operating points can be searched after training."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmdyn.operating_point import DynamicModule, OperatingPoint


class Searchable(DynamicModule):
    """A dynamic module that also offers points found by a search, ``found_points``.

    A subclass lists them among its :attr:`operating_points`.
    """

    found_points: tuple[OperatingPoint, ...] = ()

    def check_settings(self, settings: Mapping[str, Any]) -> None:
        """Refuse, by a ``ValueError``, settings that no weights of it could run at."""
        raise NotImplementedError

    def offer_points(self, points: Sequence[OperatingPoint]) -> None:
        """Offer points found by a search, in place of those found before.

        A ValueError refuses impossible settings and another point's name.
        """
        own = {p.name: p for p in self.operating_points if p not in self.found_points}
        offered = dict(own)
        for point in points:
            self.check_settings(point.settings)
            if offered.setdefault(point.name, point) != point:
                raise ValueError(f'there is another operating point {point.name!r}')
        self.found_points = tuple(p for name, p in offered.items() if name not in own)
        if self._operating_point not in self.operating_points:
            self._operating_point = None  # it was one of those found before
