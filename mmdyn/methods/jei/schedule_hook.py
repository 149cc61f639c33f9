"""Training of exits and gates on a frozen network: JEI-DNN, Regol et al., Algorithm 1."""

from collections.abc import Sequence
from numbers import Real

import torch
from mmengine.hooks import Hook

from mmdyn.engine.loss_hook import check_finds_unused, unwrapped
from mmdyn.methods.jei.exit_costs import measure_exit_costs
from mmdyn.methods.jei.gates import LearnedGatePolicy
from mmdyn.methods.jei.objective import JointTraining
from mmdyn.methods.multi_exit.training_phases import TrainingPhase, enter_phase
from mmdyn.registry import HOOKS
from mmdyn.utils.eval_mode import eval_mode
from mmdyn.utils.validation import check_counts

STAGES = dict(
    warmup='warm-up, exits learn from all images',
    gate='gates and exits are trained alternately',
    classifier='gates and exits are trained alternately',
    backbone='the whole network is trained, but for the gates',
)
"""Descriptions of the phases, for logs; alternating phases are one stage."""


@HOOKS.register_module()
class JEIScheduleHook(Hook):
    """Move a ``MultiExitClassifier`` with learned gates through the phases of JEI-DNN.

    In the warm-up all exits but the last learn from all images, the earlier ones more
    (Eq. 17). Then gates and exits are trained alternately, gates first: gates learn where
    each image should have exited (Eq. 16), exits mostly from the images that take them
    (Eq. 30). The backbone, neck and head are as in inference, without gradients: begin
    with trained ones (``load_from``). Costs of exits are counted on the first batch.

    A resumed training continues in its phase. Distributed training needs
    ``find_unused_parameters=True`` in the config.

    Args:
        cost_weight (float): The paper's λ ≥ 0 (there 0.01 to 10): the cost of the whole
            network in units of the cross-entropy.
        warmup_epochs (int): Epochs of the warm-up.
        bi_switch (int): Iterations until gates and exits alternate.
        gate_targets (str): ``'exit_subsequent'``: an image should take its cheapest
            exit and all later ones. ``'exit_if_min'``: those with no cheaper later exit.
        full_gradient (bool): Whether exits also learn to change the gates' inputs:
            JEI-DNN-FULL, slower and no better in the paper.
        fixed_exits (bool): Whether only gates learn after the warm-up (an ablation).
        end_to_end (Sequence[int] | None): Epochs of alternation and epochs in which the
            whole network is trained with all exits, one after the other, (2, 1) in the
            paper; ``None``: the backbone is never trained.
        balance_gates (bool): Whether to weight the gates' targets by their rarity on
            validation data, counted before every epoch, as for highly imbalanced tasks.
            Without informative inputs a balanced gate opens for half of all images.

    Raises:
        ValueError: For arguments out of range, and when training begins for a model
            without learned gates, without validation data, or within the warm-up alone.

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
        if fixed_exits and (full_gradient or end_to_end):
            raise ValueError('fixed_exits excludes full_gradient and end_to_end')
        check_counts(warmup_epochs=warmup_epochs, bi_switch=bi_switch)
        check_counts(end_to_end=() if end_to_end is None else end_to_end)
        if end_to_end is not None and len(end_to_end) != 2:
            raise ValueError(f'end_to_end needs two numbers of epochs, got {end_to_end}')
        self.warmup_epochs = warmup_epochs
        self.bi_switch = bi_switch
        self.fixed_exits = fixed_exits
        self.end_to_end = end_to_end
        self.balance_gates = balance_gates
        self.objective = JointTraining(cost_weight, (), gate_targets, full_gradient)

    def before_train(self, runner) -> None:
        model = unwrapped(runner.model)
        _check_model(model)
        if self.balance_gates and runner.val_loop is None:
            raise ValueError(
                'the gates are balanced on validation data: give val_dataloader, '
                'val_evaluator and val_cfg, or balance_gates=False'
            )
        self._check_lengths(runner)
        check_finds_unused(runner.model, 'alternating between exits and gates')
        pretrained = (model.init_cfg, model.backbone.init_cfg)
        if not (runner._has_loaded or 'Pretrained' in str(pretrained)):
            runner.logger.warning(
                'No checkpoint was loaded: set load_from to a trained network, or the '
                'backbone and head stay as they were initialised'
            )
        self.objective.phase = None

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        model = unwrapped(runner.model)
        if self.objective.phase is None:
            self._measure_costs(runner, model, data_batch)
            model.objective = self.objective
        epoch_length = len(runner.train_dataloader)
        phase = self.phase_at(runner.iter, epoch_length)
        # A training that is resumed within an epoch has the weights in its checkpoint.
        is_new_epoch = runner.iter % epoch_length == 0
        if self.balance_gates and is_new_epoch and phase in ('gate', 'classifier'):
            shares = _listed(self.objective.balance(model, runner.val_dataloader))
            runner.logger.info(f'Gates that should open on validation data: {shares}')
        if phase != self.objective.phase:
            self._enter(phase, runner, model)

    def phase_at(self, iteration: int, epoch_length: int) -> str:
        """Phase, one of :data:`STAGES`, of an iteration, from 0 (Algorithm 1)."""
        done = iteration - self.warmup_epochs * epoch_length
        if done < 0:
            return 'warmup'
        if self.end_to_end:  # Appendix 9.16
            alternating, whole = self.end_to_end
            cycle, epoch = divmod(done // epoch_length, alternating + whole)
            if epoch >= alternating:
                return 'backbone'
            done -= cycle * whole * epoch_length  # alternation continues where it was
        if self.fixed_exits or done // self.bi_switch % 2 == 0:
            return 'gate'
        return 'classifier'

    def _measure_costs(self, runner, model, data_batch) -> None:
        with eval_mode(model):
            images = model.data_preprocessor(data_batch, False)['inputs']
            costs = measure_exit_costs(model, images[:1])
        self.objective.exit_costs = torch.from_numpy(costs.normalized).float()
        runner.logger.info(
            f'Shares of the {costs.total[-1] / 1e6:.2f} M MACs that the exits cost: '
            f'{_listed(costs.normalized)}'
        )

    def _enter(self, phase: str, runner, model) -> None:
        before, self.objective.phase = self.objective.phase, phase
        if STAGES[phase] != STAGES.get(before):
            runner.logger.info(f'From now on: {STAGES[phase]}')
            if before is not None:
                _forget_losses(runner, model)
        frozen = 0 if phase == 'backbone' else model.num_exits
        enter_phase(runner, TrainingPhase(tuple(range(model.num_exits)), frozen))

    def _check_lengths(self, runner) -> None:
        epoch_length = len(runner.train_dataloader)
        warmup = self.warmup_epochs * epoch_length
        if warmup >= runner.max_iters:
            raise ValueError(
                f'warmup_epochs={self.warmup_epochs} are all of the training '
                f'({runner.max_iters / epoch_length:g} epochs): gates need some, too'
            )
        accumulated = runner.optim_wrapper._accumulative_counts
        if self.bi_switch % accumulated or warmup % accumulated:
            raise ValueError(
                f'gradients would be lost: accumulative_counts={accumulated} must divide '
                f'bi_switch={self.bi_switch} and a warm-up of {warmup} iterations'
            )


def _check_model(model) -> None:
    policy = getattr(model, 'policy', None)
    if not isinstance(policy, LearnedGatePolicy):
        raise ValueError(
            f'this trains a MultiExitClassifier with an mmdyn.LearnedGatePolicy, got '
            f'a {type(model).__name__} with policy {type(policy).__name__}'
        )
    if model.distillation:
        raise ValueError('JEI-DNN has no distillation: remove it from the model')


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
