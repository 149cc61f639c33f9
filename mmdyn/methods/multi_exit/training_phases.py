"""Training of exits and backbone together or in phases (Lin et al., section V-D)."""

from typing import NamedTuple

from mmengine.hooks import Hook

from mmdyn.engine.loss_hook import check_finds_unused, unwrapped
from mmdyn.models.stages import cuttable
from mmdyn.registry import HOOKS
from mmdyn.utils.validation import check_between, check_choice


class TrainingPhase(NamedTuple):
    """The trained part of a model; the rest is computed as in inference, if at all.

    ``exits`` are the indices (from 0) of the trained exits. Of the parts of the backbone,
    which lead from one exit to the next, the first ``frozen_parts`` are not trained.
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


@HOOKS.register_module()
class TrainingStrategyHook(Hook):
    """Move a ``MultiExitClassifier`` through the phases of a training strategy.

    The iterations are divided evenly among the phases (the paper trains each for all the
    epochs of a cooperative training: multiply them); the learning rate should restart
    with each. Untrained parts have no gradients and keep their running statistics.
    Distributed training needs ``find_unused_parameters=True``.

    Args:
        strategy (str): ``'cooperative'``, ``'branches_only'`` (the backbone with the last
            exit, then the other exits) or ``'stage_wise'`` (from the first exit to the
            last, each with the part of the backbone before it).
        first_phase (int): Phase to begin with, from 1: 2 of ``'branches_only'`` takes
            the backbone and the last exit from a checkpoint.

    Raises:
        ValueError: For another strategy, and when training begins for another phase or
            model, an objective that needs all exits, or stages that cannot be trained one
            after the other.

    Example:
        >>> custom_hooks = [
        ...     dict(type='mmdyn.TrainingStrategyHook', strategy='stage_wise')]
    """

    def __init__(self, strategy: str, first_phase: int = 1):
        training_phases(strategy, num_exits=2)  # refuses what it does not know
        self.strategy = strategy
        self.first_phase = first_phase

    def before_train(self, runner) -> None:
        model = unwrapped(runner.model)
        if not hasattr(model, 'training_phase'):
            kind = type(model).__name__
            raise ValueError(f'strategy is that of a MultiExitClassifier, got a {kind}')
        phases = training_phases(self.strategy, model.num_exits)
        check_between('first_phase', self.first_phase, 1, len(phases))
        self.phases = phases[self.first_phase - 1 :]
        if self.strategy == 'cooperative':
            return
        if model.objective.needs_all_exits:
            raise ValueError(
                f"the objective needs all exits: strategy must be 'cooperative', got "
                f'{self.strategy!r}'
            )
        backbone = cuttable(model.backbone)
        if self.strategy == 'stage_wise' and not backbone.trains_stage_wise:
            kind = type(model.backbone).__name__
            raise ValueError(f'a {kind} has no stages to train one after the other')
        check_finds_unused(runner.model, f'strategy={self.strategy!r}')
        if self.first_phase > 1 and not runner._has_loaded:
            runner.logger.warning(
                f'Training begins with phase {self.first_phase}, but no checkpoint was '
                f'loaded: the parts trained in earlier phases are as initialised'
            )

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        phase = self.phases[runner.iter * len(self.phases) // runner.max_iters]
        if phase != unwrapped(runner.model).training_phase:
            enter_phase(runner, phase)
            exits = ', '.join(str(exit + 1) for exit in phase.exits)
            frozen = f'frozen up to exit {phase.frozen_parts}'
            backbone = frozen if phase.frozen_parts else 'trained with them'
            runner.logger.info(f'Training exits {exits}; backbone: {backbone}')
