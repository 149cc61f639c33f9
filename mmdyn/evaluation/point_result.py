"""What was measured at one operating point: the one record of it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class PointResult:
    """What was measured at one operating point.

    Args:
        name (str): Name of the point.
        metrics (Mapping[str, Any]): What the evaluator returned.
        macs_per_image (float): Mean executed multiply-accumulates an image.
        cost_ratio (float): Share of the MACs with nothing skipped.
        latency_ms (Mapping[str, float]): ``median`` and ``p90`` of the milliseconds per
            image; empty where no time was taken.
    """

    name: str
    metrics: Mapping[str, Any]
    macs_per_image: float
    cost_ratio: float = math.nan
    latency_ms: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self):
        metrics = {name: to_python(value) for name, value in self.metrics.items()}
        object.__setattr__(self, 'metrics', metrics)

    def score(self, metric: str) -> float:
        """The value of a metric; not a number where the evaluator gave none."""
        return self.metrics.get(metric, math.nan)


def to_python(value):
    """Turn what evaluators return into Python's own numbers, lists and strings."""
    if value is None:  # how JSON files hold what is not a number
        return math.nan
    if isinstance(value, Mapping):
        return {str(k): to_python(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_python(v) for v in value]
    if hasattr(value, 'tolist'):  # tensors, arrays and NumPy scalars
        return to_python(value.tolist())
    return value if isinstance(value, (str, int, float)) else str(value)
