"""Training schedule of exits and gates on a frozen network.

Jointly-Learned Exit and Inference for a Dynamic Neural Network: JEI-DNN, Regol et al.:
Algorithm 1 and Appendices 9.1.4, 9.6, 9.7, 9.15 and 9.16.
"""

from collections.abc import Sequence
from numbers import Real

from mmengine.hooks import Hook

from mmdyn.engine.loss_hook import check_finds_unused, unwrapped
from mmdyn.methods.jei.exit_costs import measure_exit_costs
from mmdyn.methods.jei.gate_balance import balance_gates
from mmdyn.methods.jei.gates import LearnedGatePolicy
from mmdyn.methods.jei.objective import GATE_TARGETS, JointTraining
from mmdyn.methods.jei.phases import STAGES, PhaseSchedule
from mmdyn.methods.multi_exit.training_phases import TrainingPhase, enter_phase
from mmdyn.registry import HOOKS
from mmdyn.utils.eval_mode import eval_mode
from mmdyn.utils.validation import check_choice


@HOOKS.register_module()
class JEIScheduleHook(Hook):
    """Move a ``MultiExitClassifier`` with learned gates through the phases of JEI-DNN.

    In the warm-up all exits but the last learn from all images, the earlier ones more
    (Eq. 17). Then gates and exits are trained alternately, ``bi_switch`` iterations each,
    gates first: gates learn where each image should have exited (Eq. 16), exits learn
    most from the images that take them (Eq. 30). The backbone, neck and head are as in
    inference, without gradients: begin with trained ones (``load_from``). The cost of
    each exit is counted on the first batch.

    The phase follows from the iteration alone, so a resumed training continues where it
    was. In distributed training set ``find_unused_parameters=True`` in the config.

    Args:
        cost_weight (float): The paper's λ ≥ 0: the cost of the whole network in units of
            the cross-entropy. The paper's are 0.01 to 10.
        warmup_epochs (int): Epochs of the warm-up.
        bi_switch (int): Iterations until gates and exits alternate.
        gate_targets (str): ``'exit_subsequent'``: an image should take its cheapest
            exit and all later ones. ``'exit_if_min'``: those with no cheaper later exit.
        full_gradient (bool): Whether exits also learn to change the gates' inputs:
            JEI-DNN-FULL, slower and no better in the paper.
        fixed_exits (bool): Whether exits stay fixed after the warm-up: the paper's
            ablation, in which only gates learn.
        end_to_end (Sequence[int] | None): Epochs of the alternation above and epochs in
            which the whole network is trained with all exits, one after the other; the
            paper's are (2, 1). ``None``: the backbone is never trained.
        balance_gates (bool): Whether to weight the gates' targets by their rarity on
            validation data, counted before every epoch; the paper does so for highly
            imbalanced tasks. A balanced gate with uninformative inputs opens for half of
            all images, however few should exit.

    Raises:
        ValueError: For arguments out of range, and when training begins for a model
            without learned gates, without validation data, or for no longer than the
            warm-up.

    Example:
        >>> custom_hooks = [
        ...     dict(type='mmdyn.JEIScheduleHook', cost_weight=1.0, warmup_epochs=2)]
    """

    def __init__(
        self,
        cost_weight: float,
        warmup_epochs: int = 1,
        bi_switch: int = 100,
        gate_targets: str = 'exit_subsequent',
        full_gradient: bool = False,
        fixed_exits: bool = False,
        end_to_end: Sequence[int] | None = None,
        balance_gates: bool = False,
    ):
        if not (isinstance(cost_weight, Real) and 0 <= cost_weight < float('inf')):
            raise ValueError(f'cost_weight (λ) must be 0 or more, got {cost_weight!r}')
        check_choice('gate_targets', gate_targets, GATE_TARGETS)
        if fixed_exits and (full_gradient or end_to_end):
            raise ValueError(
                'fixed_exits leaves nothing to train but gates: it excludes '
                'full_gradient and end_to_end'
            )
        self.schedule = PhaseSchedule(
            warmup_epochs,
            bi_switch,
            fixed_exits,
            None if end_to_end is None else tuple(end_to_end),
        )
        self.warmup_epochs = warmup_epochs
        self.cost_weight = cost_weight
        self.gate_targets = gate_targets
        self.full_gradient = full_gradient
        self.balance_gates = balance_gates

    def before_train(self, runner) -> None:
        model = unwrapped(runner.model)
        _check_model(model)
        if self.balance_gates and runner.val_loop is None:
            raise ValueError(
                'the gates are balanced on validation data: give val_dataloader, '
                'val_evaluator and val_cfg, or balance_gates=False'
            )
        _check_lengths(self.schedule, runner)
        check_finds_unused(runner.model, 'alternating between exits and gates')
        pretrained = (model.init_cfg, model.backbone.init_cfg)
        if not (runner._has_loaded or 'Pretrained' in str(pretrained)):
            runner.logger.warning(
                'No checkpoint was loaded: the backbone and head stay as they were '
                'initialised. Set load_from to that of a trained network'
            )
        self._objective: JointTraining | None = None
        self._phase = None

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        model = unwrapped(runner.model)
        if self._objective is None:
            self._objective = self._build_objective(runner, model, data_batch)
            model.objective = self._objective
        epoch_length = len(runner.train_dataloader)
        phase = self.schedule.phase_at(runner.iter, epoch_length)
        # A training that is resumed within an epoch has the weights in its checkpoint.
        is_new_epoch = runner.iter % epoch_length == 0
        if self.balance_gates and is_new_epoch and phase in ('gate', 'classifier'):
            shares = balance_gates(model, self._objective, runner.val_dataloader)
            runner.logger.info(
                f'Gates that should open on validation data: {_listed(shares)}'
            )
        if phase != self._phase:
            self._enter(phase, runner, model)

    def _build_objective(self, runner, model, data_batch) -> JointTraining:
        with eval_mode(model):
            images = model.data_preprocessor(data_batch, False)['inputs']
            costs = measure_exit_costs(model, images[:1])
        runner.logger.info(
            f'Shares of the {costs.total[-1] / 1e6:.2f} M MACs that the exits cost: '
            f'{_listed(costs.normalized)}'
        )
        return JointTraining(
            self.cost_weight, costs.normalized, self.gate_targets, self.full_gradient
        )

    def _enter(self, phase: str, runner, model) -> None:
        if STAGES[phase] != STAGES.get(self._phase):
            runner.logger.info(f'From now on: {STAGES[phase]}')
            if self._phase is not None:
                _forget_losses(runner, model)
        self._objective.phase = self._phase = phase
        frozen = 0 if phase == 'backbone' else model.num_exits
        enter_phase(runner, TrainingPhase(tuple(range(model.num_exits)), frozen))


def _check_model(model) -> None:
    policy = getattr(model, 'policy', None)
    if not isinstance(policy, LearnedGatePolicy):
        raise ValueError(
            f'this trains a MultiExitClassifier with an mmdyn.LearnedGatePolicy, got a '
            f'{type(model).__name__} with policy {type(policy).__name__}'
        )
    if model.distillation:
        raise ValueError('JEI-DNN has no distillation: remove it from the model')


def _check_lengths(schedule: PhaseSchedule, runner) -> None:
    epoch_length = len(runner.train_dataloader)
    warmup = schedule.warmup_epochs * epoch_length
    if warmup >= runner.max_iters:
        raise ValueError(
            f'warmup_epochs={schedule.warmup_epochs} are all of the training '
            f'({runner.max_iters / epoch_length:g} epochs): nothing is left for the gates'
        )
    accumulated = runner.optim_wrapper._accumulative_counts
    if schedule.bi_switch % accumulated or warmup % accumulated:
        raise ValueError(
            f'with accumulative_counts={accumulated}, bi_switch and the warm-up need '
            f'multiples of it, got bi_switch={schedule.bi_switch} and a warm-up of '
            f'{warmup} iterations: the gradients in between would be lost'
        )


def _forget_losses(runner, model) -> None:
    """Drop traces of past losses: momentum of the exits, and logged values."""
    # It would move exits that no sample takes any more.
    for parameter in model.exits.parameters():
        runner.optim_wrapper.optimizer.state.pop(parameter, None)
    # Logs repeat the latest value of losses that are no longer computed.
    scalars = runner.message_hub.log_scalars
    for name in [name for name in scalars if 'loss' in name]:
        del scalars[name]


def _listed(shares) -> str:
    return ', '.join(f'{share:.3f}' for share in shares)
