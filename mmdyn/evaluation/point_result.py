"""The record of what was measured at one operating point."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

from mmdyn.operating_point import OLD_NAMES, OperatingPoint


@dataclass(frozen=True)
class PointResult:
    """What was measured at one operating point.

    ``latency_ms`` has the ``median`` and the ``p90`` of the milliseconds per image; it is
    empty where no time was taken. Reports do not write the settings of the point.
    """

    name: str
    metrics: Mapping[str, Any]
    macs_per_image: float  # the mean of what was executed
    cost_ratio: float = math.nan  # share of the dense point's MACs; NaN if unknown
    latency_ms: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    run: str | None = None  # its name, in a report of several

    @property
    def point(self) -> OperatingPoint:
        """The operating point; without settings if the result was read from a file."""
        return OperatingPoint(self.name, self.settings)

    def score(self, metric: str | None) -> float:
        """The value of a metric; NaN where it was not measured or is not one number."""
        value = self.metrics.get(metric)
        return value if isinstance(value, Real) else math.nan


def current_name(name: str, dense: str) -> str:
    """Name of an operating point today, from a file whose dense point is ``dense``."""
    old = set(OLD_NAMES).intersection(dense.split('+'))  # else a user's own name
    return '+'.join('dense' if part in old else part for part in name.split('+'))
