"""Training of exits and backbone together, or one after the other.

A Closer Look at Branch Classifiers of Multi-exit Architectures, Lin et al., section V-D.
"""

from mmengine.hooks import Hook

from mmdyn.engine.loss_hook import check_finds_unused, unwrapped
from mmdyn.methods.multi_exit.training_phases import enter_phase, training_phases
from mmdyn.models.stages import cuttable
from mmdyn.registry import HOOKS
from mmdyn.utils.validation import check_between


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
        ValueError: For another strategy or phase, and when training begins for a model
            that is not a ``MultiExitClassifier``, an objective that needs all exits, or
            stage-wise for a backbone whose stages cannot be trained one after the other.

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
        if (
            self.strategy == 'stage_wise'
            and not cuttable(model.backbone).trains_stage_wise
        ):
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
