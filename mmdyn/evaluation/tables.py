"""Tables that are printed and written as CSV files, built of columns."""

import csv
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.table import Table


class Column(NamedTuple):
    """A column of a table, with a title in print and another one in the file."""

    title: str
    key: str
    values: Sequence
    text: Callable[..., str] = escape  # prints a value, in rich's markup
    justify: str = 'left'


def number_column(
    title: str, key: str, values: Sequence[float], digits: int, unit: float = 1
) -> Column:
    """A column of numbers, printed in a unit; a dash stands for NaN."""

    def text(value: float) -> str:
        return '–' if math.isnan(value) else f'{value / unit:.{digits}f}'

    return Column(title, key, values, text, 'right')


def print_table(columns: Sequence[Column], title: str, caption: str = '') -> None:
    """Print a table to stdout."""
    table = Table(title=title, caption=caption)
    for column in columns:
        table.add_column(column.title, justify=column.justify, overflow='fold')
    for row in zip(*(map(column.text, column.values) for column in columns)):
        table.add_row(*row)
    console_for_tables().print(table)


def write_table(columns: Sequence[Column], path: Path) -> Path:
    """Write a table as a CSV file; returns the path."""
    with path.open('w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow([column.key for column in columns])
        writer.writerows(zip(*(column.values for column in columns)))
    return path


def console_for_tables() -> Console:
    """A console that keeps long names whole where the output is not a terminal."""
    console = Console()
    # For a pipe or a file rich assumes 80 columns.
    return console if console.is_terminal else Console(width=200)
