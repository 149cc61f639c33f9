"""Train the exits of a frozen network and the gates before them in turns.

Jointly-Learned Exit and Inference for a Dynamic Neural Network: JEI-DNN, Regol et al.:
Algorithm 1 and Appendices 9.1.4, 9.6, 9.7, 9.15 and 9.16.
"""

from collections.abc import Sequence
from numbers import Real

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from torch import Tensor

from mmdyn.engine.loss_hook import check_finds_unused, unwrapped
from mmdyn.methods.jei.gates import LearnedGatePolicy
from mmdyn.methods.jei.objective import GATE_TARGETS, JointTraining
from mmdyn.methods.multi_exit.classifier import MultiExitClassifier
from mmdyn.methods.multi_exit.exit_costs import measure_exit_costs
from mmdyn.methods.multi_exit.training_phases import TrainingPhase
from mmdyn.registry import HOOKS
from mmdyn.utils.eval_mode import eval_mode
from mmdyn.utils.validation import check_choice, check_counts


@HOOKS.register_module()
class JEIScheduleHook(Hook):
    """Move a ``MultiExitClassifier`` with learned gates through the phases of JEI-DNN.

    In the warm-up all exits but the last learn from all images, the earlier ones more
    (Eq. 17). Then gates and exits take turns of ``bi_switch`` iterations, gates first:
    gates learn where each image should have left (Eq. 16), exits learn most from the
    images that leave at them (Eq. 30). The backbone, neck and head are as in inference,
    without gradients: begin with trained ones (``load_from``). What an exit costs is
    counted on the first batch.

    The phase follows from the iteration alone, so a training that is resumed goes on
    where it was. In distributed training set ``find_unused_parameters=True`` in the
    config.

    Args:
        cost_weight (float): The paper's λ ≥ 0: how much cross-entropy the cost of the
            whole network is worth. The paper's are 0.01 to 10.
        warmup_epochs (int): Epochs of the warm-up.
        bi_switch (int): Iterations of a turn.
        gate_targets (str): ``'exit_subsequent'``: an image should leave at its cheapest
            exit and at all behind it. ``'exit_if_min'``: where no later one is cheaper.
        full_gradient (bool): Whether exits also learn to change what the gates say:
            JEI-DNN-FULL, slower and no better in the paper.
        fixed_exits (bool): Whether exits stay as they are after the warm-up: the paper's
            ablation with gates that learn alone.
        end_to_end (Sequence[int] | None): Epochs of the turns above and epochs in which
            the whole network is trained with all exits, one after the other; the paper's
            are (2, 1). ``None``: the backbone is never trained.
        balance_gates (bool): Whether what a gate should say counts the more the rarer it
            is on validation data, counted before every epoch; the paper does so where
            tasks are highly imbalanced. Where an exit says little about who should leave,
            a gate that is balanced opens for half of all images, however few should.

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
        check_counts(warmup_epochs=warmup_epochs, bi_switch=bi_switch)
        check_choice('gate_targets', gate_targets, GATE_TARGETS)
        if end_to_end is not None:
            check_counts(end_to_end=tuple(end_to_end))
            if len(end_to_end) != 2:
                raise ValueError(
                    f'end_to_end needs two numbers of epochs, of exits and gates and of '
                    f'the whole network, got {tuple(end_to_end)}'
                )
        if fixed_exits and (full_gradient or end_to_end):
            raise ValueError(
                'fixed_exits leaves nothing to train but gates: it goes with neither '
                'full_gradient nor end_to_end'
            )
        self.cost_weight = cost_weight
        self.warmup_epochs = warmup_epochs
        self.bi_switch = bi_switch
        self.gate_targets = gate_targets
        self.full_gradient = full_gradient
        self.fixed_exits = fixed_exits
        self.end_to_end = end_to_end
        self.balance_gates = balance_gates

    def phase_at(self, iteration: int, epoch_length: int) -> str:
        """The phase of an iteration.

        Args:
            iteration (int): Number of the iteration, from 0.
            epoch_length (int): Iterations of an epoch.

        Returns:
            str: ``'warmup'``, ``'gate'``, ``'classifier'`` or ``'backbone'``.
        """
        done = iteration - self.warmup_epochs * epoch_length
        if done < 0:
            return 'warmup'
        if self.end_to_end:
            turns, whole = self.end_to_end
            cycle, epoch = divmod(done // epoch_length, turns + whole)
            if epoch >= turns:
                return 'backbone'
            done -= cycle * whole * epoch_length  # its epochs do not count as turns
        if self.fixed_exits or done // self.bi_switch % 2 == 0:
            return 'gate'
        return 'classifier'

    def before_train(self, runner) -> None:
        model = unwrapped(runner.model)
        self._check(runner, model)
        self._objective: JointTraining | None = None
        self._phase = None

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        model = unwrapped(runner.model)
        if self._objective is None:
            self._objective = self._build_objective(runner, model, data_batch)
            model.objective = self._objective
        epoch_length = len(runner.train_dataloader)
        phase = self.phase_at(runner.iter, epoch_length)
        # A training that is resumed within an epoch has the weights in its checkpoint.
        is_new_epoch = runner.iter % epoch_length == 0
        if self.balance_gates and is_new_epoch and phase in ('gate', 'classifier'):
            self._balance_gates(runner, model)
        if phase != self._phase:
            self._enter(phase, runner, model)

    def _check(self, runner, model) -> None:
        policy = getattr(model, 'policy', None)
        if not isinstance(model, MultiExitClassifier) or not isinstance(
            policy, LearnedGatePolicy
        ):
            raise ValueError(
                f'this trains a MultiExitClassifier with an mmdyn.LearnedGatePolicy, got '
                f'a {type(model).__name__} with policy {type(policy).__name__}'
            )
        if model.distillation:
            raise ValueError('JEI-DNN has no distillation: leave it out of the model')
        if self.balance_gates and runner.val_loop is None:
            raise ValueError(
                'the gates are balanced on validation data: give val_dataloader, '
                'val_evaluator and val_cfg, or balance_gates=False'
            )
        warmup = self.warmup_epochs * len(runner.train_dataloader)
        if warmup >= runner.max_iters:
            raise ValueError(
                f'warmup_epochs={self.warmup_epochs} are all of the training '
                f'({runner.max_iters / len(runner.train_dataloader):g} epochs): nothing '
                f'is left for the gates'
            )
        accumulated = runner.optim_wrapper._accumulative_counts
        uneven = [n for n in (self.bi_switch, warmup) if n % accumulated]
        if uneven:
            raise ValueError(
                f'with accumulative_counts={accumulated}, turns and the warm-up need '
                f'multiples of it, got bi_switch={self.bi_switch} and a warm-up of '
                f'{warmup} iterations: the gradients in between would be lost'
            )
        check_finds_unused(runner.model, 'exits and gates take turns, which')
        pretrained = (model.init_cfg, model.backbone.init_cfg)
        if not (runner._has_loaded or 'Pretrained' in str(pretrained)):
            runner.logger.warning(
                'No checkpoint was loaded: the backbone and head stay as they were '
                'initialised. Set load_from to that of a trained network'
            )

    def _build_objective(self, runner, model, data_batch) -> JointTraining:
        with eval_mode(model):
            images = model.data_preprocessor(data_batch, False)['inputs']
            costs = measure_exit_costs(model, images[:1])
        shares = ', '.join(f'{share:.3f}' for share in costs.normalized)
        runner.logger.info(
            f'Shares of the {costs.total[-1] / 1e6:.2f} M MACs that the exits cost: '
            f'{shares}'
        )
        return JointTraining(
            self.cost_weight, costs.normalized, self.gate_targets, self.full_gradient
        )

    def _balance_gates(self, runner, model) -> None:
        """Weigh what gates should say by how rarely they should on validation data."""
        counts = torch.zeros_like(model.policy.class_weights)
        with eval_mode(model):
            for batch in runner.val_dataloader:
                targets = self._targets(model, batch)
                leave = targets.sum(dim=1)
                counts += torch.stack([targets.shape[1] - leave, leave], dim=1)
        all_reduce(counts)
        # Where all should say the same, there is nothing to balance.
        weights = counts.sum(dim=1, keepdim=True) / (2 * counts)
        weights[(counts == 0).any(dim=1)] = 1
        model.policy.class_weights.copy_(weights)
        shares = (counts[:, 1] / counts.sum(dim=1)).tolist()
        runner.logger.info(
            f'Gates that should open on validation data: '
            f'{", ".join(f"{share:.3f}" for share in shares)}'
        )

    def _targets(self, model, batch) -> Tensor:
        data = model.data_preprocessor(batch, False)
        labels = torch.cat([s.gt_label for s in data['data_samples']])
        joint, logits = self._objective, model.logits_of_exits(data['inputs'])
        return joint.gate_targets(joint.errors(logits, labels))

    def _enter(self, phase: str, runner, model) -> None:
        if _kind(phase) != _kind(self._phase):
            self._enter_kind(phase, runner, model)
        self._objective.phase = self._phase = phase
        frozen = 0 if phase == 'backbone' else model.num_exits
        model.training_phase = TrainingPhase(tuple(range(model.num_exits)), frozen)
        # Those that were accumulated are of the phase before.
        runner.optim_wrapper.zero_grad()

    def _enter_kind(self, phase: str, runner, model) -> None:
        """From the warm-up to turns, or between turns and the whole network."""
        runner.logger.info(f'From now on: {_KINDS[_kind(phase)]}')
        if self._phase is None:
            return
        # Momentum of other losses would move exits at which nobody leaves now.
        for parameter in model.exits.parameters():
            runner.optim_wrapper.optimizer.state.pop(parameter, None)
        # A log goes on showing what is not computed any more.
        scalars = runner.message_hub.log_scalars
        for name in [name for name in scalars if 'loss' in name]:
            del scalars[name]


_KINDS = dict(
    warmup='warm-up, exits learn from all images',
    turns='gates and exits take turns',
    backbone='the whole network is trained, but for the gates',
)


def _kind(phase: str | None) -> str | None:
    return 'turns' if phase in ('gate', 'classifier') else phase
