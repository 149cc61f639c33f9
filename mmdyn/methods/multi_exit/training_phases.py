"""Order in which the exits of a network and its backbone are trained.

A Closer Look at Branch Classifiers of Multi-exit Architectures, Lin et al., section V-D.
"""

from typing import NamedTuple

from mmdyn.engine.loss_hook import unwrapped
from mmdyn.utils.validation import check_choice


class TrainingPhase(NamedTuple):
    """The trained part of a model; the rest is computed as in inference, if at all.

    Args:
        exits (tuple[int, ...]): Indices of the trained exits, from 0.
        frozen_parts (int): Number of parts of the backbone, from the first, that are not
            trained; a part leads from one exit to the next.
    """

    exits: tuple[int, ...]
    frozen_parts: int = 0


def training_phases(strategy: str, num_exits: int) -> list[TrainingPhase]:
    """The phases of a training strategy, one after the other.

    ``'cooperative'`` trains everything together (Eq. 2), ``'branches_only'`` the backbone
    with the last exit, then the other exits, and ``'stage_wise'`` each exit with the part
    of the backbone before it.
    """
    check_choice('strategy', strategy, ('cooperative', 'branches_only', 'stage_wise'))
    everything = tuple(range(num_exits))
    if strategy == 'cooperative':
        return [TrainingPhase(everything)]
    if strategy == 'branches_only':
        return [
            TrainingPhase(everything[-1:]),
            TrainingPhase(everything[:-1], frozen_parts=num_exits),
        ]
    return [TrainingPhase((exit,), frozen_parts=exit) for exit in everything]


def enter_phase(runner, phase: TrainingPhase) -> None:
    """Train a runner's model in another phase, without gradients of the one before."""
    unwrapped(runner.model).training_phase = phase
    runner.optim_wrapper.zero_grad()
