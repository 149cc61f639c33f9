"""What a module has whose operating points can be searched after training."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmdyn.operating_point import DynamicModule, OperatingPoint


class Searchable(DynamicModule):
    """A dynamic module that offers points which a search has found.

    Attributes:
        found_points (tuple[OperatingPoint, ...]): The points, which a subclass lists
            among its :attr:`operating_points`.
    """

    found_points: tuple[OperatingPoint, ...] = ()

    def check_settings(self, settings: Mapping[str, Any]) -> None:
        """Check the settings of a point to offer.

        Raises:
            ValueError: If they cannot be the module's, whatever its weights.
        """
        raise NotImplementedError

    def offer_points(self, points: Sequence[OperatingPoint]) -> None:
        """Offer points that a search found, in the place of those found before.

        Args:
            points (Sequence[OperatingPoint]): The points. One that the module already
                has under the same name and with the same settings may be among them.

        Raises:
            ValueError: If one cannot be the module's, or it has another point of that
                name.
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
