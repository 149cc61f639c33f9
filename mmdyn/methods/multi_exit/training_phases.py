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
    """The phases of a strategy of ``TrainingStrategyHook``, in order."""
    exits = tuple(range(num_exits))
    backbone, branches = TrainingPhase(exits[-1:]), TrainingPhase(exits[:-1], num_exits)
    phases = dict(
        cooperative=[TrainingPhase(exits)],
        branches_only=[backbone, branches],
        stage_wise=[TrainingPhase((exit,), frozen_parts=exit) for exit in exits],
    )
    check_choice('strategy', strategy, tuple(phases))
    return phases[strategy]


def enter_phase(runner, phase: TrainingPhase) -> None:
    """Train a runner's model in another phase, without gradients of the one before."""
    unwrapped(runner.model).training_phase = phase
    runner.optim_wrapper.zero_grad()
