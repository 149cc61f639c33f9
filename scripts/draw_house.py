"""Draws the packages of mmdyn and the imports between them, read from the code.

    python scripts/draw_house.py docs/images/house.png

A row is a package, or a room under mmdyn/methods. An arrow ends at each package that is
imported; a number on it counts the import statements in the package of that row, those
inside functions included.
"""

import argparse
import ast
import sys
from collections import Counter
from pathlib import Path

import matplotlib

matplotlib.use('Agg')
from matplotlib import pyplot as plt
from matplotlib.patches import FancyBboxPatch

ROOT = Path(__file__).resolve().parents[1]
ABOVE = ('tools', 'mmdyn.apis', 'mmdyn.deployment')
BELOW = (
    'mmdyn.engine',
    'mmdyn.visualization',
    'mmdyn.evaluation',
    'mmdyn.models',
    'mmdyn.datasets',
    'mmdyn.utils',
    'mmdyn.registry',
    'mmdyn.operating_point',
)
ROW, STEP, WIDTH = 0.5, 0.48, 3.6  # inches
BOX = 'round,pad=0,rounding_size=0.05'
CIRCLE = dict(boxstyle='circle,pad=0.25', facecolor='white', edgecolor='0.3')
COUNT = dict(size=7, ha='center', va='center')
ARROW = dict(arrowstyle='-|>', color='0.3', lw=0.9, shrinkA=0, shrinkB=0)
SHADES = dict(outside='#f4f4f4', room='#c9c9c9', core='#e4e4e4')


def read_packages() -> dict[str, list[Path]]:
    """Files of each package, from the top of the house to its ground."""
    methods = ROOT / 'mmdyn' / 'methods'
    rooms = sorted(path.parent.name for path in methods.glob('*/__init__.py'))
    names = (*ABOVE, *(f'mmdyn.methods.{room}' for room in rooms), *BELOW)
    files = {name: ROOT.joinpath(*name.split('.')) for name in names}
    found = {
        name: [*path.rglob('*.py'), *path.parent.glob(f'{path.name}.py')]
        for name, path in files.items()
    }
    return {name: paths for name, paths in found.items() if paths}


def imported_modules(path: Path) -> list[str]:
    modules = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules.append(node.module)
    return [module for module in modules if f'{module}.'.startswith('mmdyn.')]


def count_imports(packages: dict[str, list[Path]]) -> Counter:
    """Import statements between packages, by the importing and the imported one."""
    counts = Counter()
    for package, paths in packages.items():
        for module in (m for path in paths for m in imported_modules(path)):
            owner = next((p for p in packages if f'{module}.'.startswith(f'{p}.')), None)
            owner = owner or 'mmdyn.apis'  # from mmdyn import …
            if owner != package:
                counts[package, owner] += 1
    return counts


def draw(packages: dict[str, list[Path]], counts: Counter) -> plt.Figure:
    rows = {name: index for index, name in enumerate(packages)}
    width, height = WIDTH + STEP * len(rows), ROW * len(rows)
    figure = plt.figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(-0.1, width), ylim=(0.1 - height, 0.1))
    axes.axis('off')
    for name, row in rows.items():
        right, top = WIDTH + STEP * row, -ROW * row
        kind = 'room' if '.methods.' in name else 'core' if name in BELOW else 'outside'
        colors = dict(facecolor=SHADES[kind], edgecolor='0.3')
        axes.add_patch(
            FancyBboxPatch((0, top - 0.36), right, 0.36, boxstyle=BOX, zorder=3, **colors)
        )
        lines = sum(len(path.read_text().splitlines()) for path in packages[name])
        text = f'{lines:,} lines'
        axes.text(0.1, top - 0.18, name, weight='bold', size=9, va='center', zorder=4)
        axes.text(3.4, top - 0.18, text, size=8, ha='right', va='center', zorder=4)
        for (importer, imported), count in counts.items():
            if importer == name and rows[imported] > row:
                end = WIDTH + STEP * (rows[imported] - 0.5)
                axes.plot([right, end], [top - 0.18] * 2, color='0.6', lw=0.8, zorder=1)
                axes.text(end, top - 0.18, count, bbox=CIRCLE, zorder=5, **COUNT)
        importers = [rows[importer] for importer, imported in counts if imported == name]
        if importers:
            x, start = right - STEP / 2, -ROW * min(importers) - 0.18
            axes.annotate('', (x, top), (x, start), arrowprops=ARROW, zorder=2)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('image', type=Path)
    packages = read_packages()
    counts = count_imports(packages)
    order = list(packages)
    for importer, imported in counts:
        if order.index(importer) > order.index(imported):
            print(f'not drawn, uphill: {importer} imports {imported}', file=sys.stderr)
    draw(packages, counts).savefig(parser.parse_args().image, dpi=150)


if __name__ == '__main__':
    main()
