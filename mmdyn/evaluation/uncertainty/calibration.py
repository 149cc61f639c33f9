"""Temperatures and conformal thresholds of a network, and their sidecar file."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np

from mmdyn.evaluation.point_result import current_name
from mmdyn.evaluation.uncertainty.conformal import check_alpha, check_method
from mmdyn.operating_point import OperatingPoint
from mmdyn.utils.sidecar import read_sidecar, write_sidecar

AGAIN = 'run tools/analysis_tools/calibrate.py'


def fingerprint(point: OperatingPoint) -> str:
    """The settings of a point as JSON: they differ where points of one name do."""

    def plain(value):
        return dict(value) if isinstance(value, Mapping) else str(value)

    return json.dumps(point.settings, sort_keys=True, default=plain)


@dataclass(frozen=True)
class Calibration:
    """Temperatures and conformal thresholds of a network, by name of operating point.

    Each point has those of its M exits, or one where all images take the same path, and
    the :func:`fingerprint` of its settings. Alpha and method are those of
    :func:`mmdyn.evaluation.uncertainty.conformal.conformal_thresholds`.
    """

    temperatures: Mapping[str, tuple[float, ...]] = field(hash=False)
    thresholds: Mapping[str, tuple[float, ...]] = field(hash=False)
    settings: Mapping[str, str] = field(hash=False)
    alpha: float
    method: str

    def __post_init__(self):
        for name in ('temperatures', 'thresholds'):
            values = {p: tuple(map(float, t)) for p, t in getattr(self, name).items()}
            object.__setattr__(self, name, values)
        points = [[*each] for each in (self.temperatures, self.thresholds, self.settings)]
        if any(each != points[0] for each in points):
            names = 'temperatures, thresholds and settings'
            got = ', '.join(map(str, points))
            raise ValueError(f'{names} must be of the same points, got {got}')
        for point, values in self.thresholds.items():
            temperatures = self.temperatures[point]
            if not temperatures or not all(0 < t < math.inf for t in temperatures):
                raise ValueError(
                    f'the temperatures of {point!r} must be positive, got {temperatures}'
                )
            if len(values) != len(temperatures) or not all(0 <= v <= 1 for v in values):
                raise ValueError(
                    f'the thresholds of {point!r} must be {len(temperatures)}, one an '
                    f'exit, in [0, 1], got {values}'
                )
        check_alpha(self.alpha)
        check_method(self.method)

    @classmethod
    def from_json(cls, content: Mapping) -> 'Calibration':
        """The calibration of a file, which may have names of an older version."""
        names = sorted(each.name for each in fields(cls))
        if sorted(content) != names:
            raise ValueError(
                f'a calibration has {names}, got {sorted(content)}: {AGAIN} again'
            )
        # A point without settings is the dense one; others have names of their own.
        settings = content['settings'].items()
        today = {p: current_name(p, dense=p) for p, found in settings if found == '{}'}
        by_point = {
            key: {today.get(point, point): value for point, value in content[key].items()}
            for key in ('temperatures', 'thresholds', 'settings')
        }
        return cls(**{**content, **by_point})

    def at(self, point: OperatingPoint | None) -> tuple[np.ndarray, np.ndarray]:
        """Temperatures and thresholds, (M,) each, of a point; ``None``: the only one.

        A ``ValueError`` says that it was not calibrated, or with other settings.
        """
        names = ', '.join(map(repr, self.thresholds))
        if point is None and len(self.thresholds) != 1:
            raise ValueError(
                f'which operating point is evaluated is not known, and {names} are '
                f'calibrated: use mmdyn.OperatingPointTestLoop'
            )
        name = point.name if point else next(iter(self.thresholds))
        if name not in self.thresholds:
            raise ValueError(
                f'operating point {name!r} has not been calibrated, only {names}: '
                f'{AGAIN} again, with this point'
            )
        if point and self.settings[name] != fingerprint(point):
            raise ValueError(
                f'operating point {name!r} has been calibrated with the settings '
                f'{self.settings[name]}, and is {fingerprint(point)} now: {AGAIN} again'
            )
        return np.array(self.temperatures[name]), np.array(self.thresholds[name])


def calibration_file(checkpoint: str | Path) -> Path:
    """Sidecar file of a checkpoint: ``epoch_9.calibration.json`` of ``epoch_9.pth``."""
    return Path(checkpoint).with_suffix('.calibration.json')


def save_calibration(checkpoint: str | Path, calibration: Calibration) -> Path:
    """Write the calibration of a checkpoint to its sidecar file; returns the file."""
    content = dict(calibration=asdict(calibration))
    return write_sidecar(calibration_file(checkpoint), checkpoint, content)


def load_calibration(checkpoint: str | Path) -> Calibration | None:
    """The calibration of a checkpoint, from its sidecar file.

    ``None`` if there is no file, or, with a warning, if the checkpoint has changed since.
    """
    file = calibration_file(checkpoint)
    consequence = f', and is left out: {AGAIN} again'
    if read_sidecar(file, checkpoint, consequence) is None:
        return None
    return read_calibration(file)


def read_calibration(path: str | Path) -> Calibration:
    """Read a file of :func:`save_calibration`, whatever its checkpoint is now."""
    content = json.loads(Path(path).read_text())
    return Calibration.from_json(content.get('calibration', {}))
