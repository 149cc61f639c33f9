"""Checks of arguments; the messages name the value and the valid ones."""

from collections.abc import Sequence
from numbers import Integral


def check_choice(name: str, value, valid: Sequence) -> None:
    if value not in valid:
        raise ValueError(f'{name} must be one of {tuple(valid)}, got {value!r}')


def check_between(name: str, value: int, low: int, high: int) -> None:
    if not (isinstance(value, Integral) and low <= value <= high):
        raise ValueError(f'{name} must lie in {low}…{high}, got {value!r}')


def check_counts(**arguments) -> None:
    """Check that the arguments, or all their elements, are whole numbers above 0."""
    for name, value in arguments.items():
        numbers = value if isinstance(value, Sequence) else (value,)
        if not all(isinstance(n, Integral) and n > 0 for n in numbers):
            raise ValueError(f'{name} must be a whole number above 0, got {value!r}')


def per_stage(
    name: str, values: Sequence[int] | None, default: tuple[int, ...], num_stages: int
) -> tuple[int, ...]:
    """The values of the stages, or as many of the default ones."""
    values = default[:num_stages] if values is None else tuple(values)
    if len(values) != num_stages:
        raise ValueError(
            f'{name} needs one value for each of {num_stages} stages, got {values}'
        )
    check_counts(**{name: values})
    return values


def check_out_indices(out_indices: Sequence[int] | None, last: int) -> tuple[int, ...]:
    """The indices as a tuple, if all lie in 0…``last``; for ``None`` the last."""
    if out_indices is None:
        return (last,)
    if isinstance(out_indices, Integral):
        raise ValueError(f'out_indices must be a sequence, got {out_indices}')
    indices = tuple(out_indices)
    if not indices or not all(0 <= i <= last for i in indices):
        raise ValueError(f'out_indices must lie in 0…{last}, got {indices}')
    return indices
