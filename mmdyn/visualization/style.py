"""The common look of all figures, which are made without pyplot and its global state."""


def new_figure(width: float, height: float, layout: str = 'constrained', dpi: int = 200):
    """An empty figure, sizes in inches; ``figure.savefig(path)`` writes it."""
    from matplotlib.figure import Figure  # takes half a second

    return Figure(figsize=(width, height), layout=layout, dpi=dpi)


def finish(axes, xlabel: str = '', ylabel: str = '') -> None:
    """Name the axes, draw a light grid and leave out the frame's upper right half."""
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.grid(alpha=0.25)
    axes.spines[['top', 'right']].set_visible(False)


def add_legend(
    figure, loc: str = 'outside upper center', ncols: int = 3, **artists
) -> None:
    """Put a legend of the whole figure outside of its axes.

    ``artists`` are ``handles`` and ``labels``, if not those of all axes.
    """
    figure.legend(frameon=False, fontsize=8, loc=loc, ncols=ncols, **artists)


def shades(number: int, first: float = 0.0, last: float = 0.6) -> list[str]:
    """Grey levels at equal distances, from 0 (black) to 1 (white)."""
    step = (last - first) / max(number - 1, 1)
    return [f'{first + step * i:.2f}' for i in range(number)]


def macs_unit(largest: float) -> tuple[str, float]:
    """Name and size of the unit for MACs of which ``largest`` are the most."""
    return ('GMACs', 1e9) if largest >= 1e9 else ('MMACs', 1e6)
