"""Checks and timings on a GPU, in order of importance, within a few minutes.

A stage is a module whose ``jobs(args)`` gives its jobs by name, in their order. A job is
a function that yields rows (dicts) as they are measured.
"""

from pathlib import Path

ROOT = Path(__file__).parents[2]
