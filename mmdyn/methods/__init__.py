"""The methods, one room each: a folder here and its name in this list."""

from importlib import import_module

ROOMS = (
    'mod',
    'spatial',
    'cnmm',
    'multi_exit',
    'jei',
)

for room in ROOMS:
    import_module(f'{__name__}.{room}')  # it tells the registries what it offers
