"""Knowledge distillation from a teacher outside of the model.

Distilling the Knowledge in a Neural Network, Hinton, Vinyals, Dean, 2015.
"""

import copy
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from mmengine.dist import barrier, is_main_process
from mmengine.registry import MODELS as MMENGINE_MODELS
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mmdyn.engine.build import read_config
from mmdyn.engine.loss_hook import LossHook, unwrapped
from mmdyn.models.losses import distillation_loss, feature_distillation_loss
from mmdyn.operating_point import dense_operating_point, set_operating_point
from mmdyn.registry import HOOKS
from mmdyn.utils.checkpoints import load_checkpoint_strictly
from mmdyn.utils.validation import check_choice


@HOOKS.register_module()
class DistillationHook(LossHook):
    """Add the distance of a model's outputs from a teacher's to its losses.

    The teacher gets the same preprocessed images and is not part of checkpoints.
    Classifiers and segmentors learn its logits; detectors, whose logits belong to their
    own boxes, the maps of its neck or backbone.

    Args:
        student (str): Path of the module whose output is compared, classes in dimension
            1: ``'head.fc'`` of mmpretrain's classifiers, ``'decode_head.conv_seg'`` of
            mmseg's segmentors, ``'neck'`` of mmdet's detectors with ``loss='features'``.
        teacher (str | None): Config file of the teacher, or ``PACKAGE::FILE``. ``None``:
            a copy of the model as it was when training began, whose weights are kept in
            ``distillation_teacher.pth`` in the work directory, for resuming.
        checkpoint (str | None): The teacher's weights; needed with ``teacher``.
        teacher_output (str | None): Path of the teacher's module; ``None``: ``student``.
        teacher_point (str | None): The teacher's operating point; ``None``: dense.
        loss (str): ``'logits'``: their KL divergence; ``'features'``: the mean squared
            difference of maps, for which the teacher's backbone and neck alone run.
        temperature (float): Divides logits before the softmax; positive.
        weight (float): Weight of the loss; positive.

    Example:
        >>> custom_hooks = [dict(type='mmdyn.DistillationHook', temperature=10)]
        >>> custom_hooks = [
        ...     dict(type='mmdyn.DistillationHook', student='neck', loss='features')]
    """

    # Before hooks that scale all losses of an operating point.
    priority = 'ABOVE_NORMAL'
    file_name = 'distillation_teacher.pth'

    def __init__(
        self,
        student: str = 'head.fc',
        teacher: str | None = None,
        checkpoint: str | None = None,
        teacher_output: str | None = None,
        teacher_point: str | None = None,
        loss: str = 'logits',
        temperature: float = 10.0,
        weight: float = 1.0,
    ):
        if (teacher is None) != (checkpoint is None):
            got = f'{teacher=} and {checkpoint=}'
            raise ValueError(f'a teacher needs a config and a checkpoint, got {got}')
        check_choice('loss', loss, ('logits', 'features'))
        for name, value in dict(temperature=temperature, weight=weight).items():
            if not value > 0:
                raise ValueError(f'{name} must be above 0, got {value!r}')
        self.paths = dict(student=student, teacher=teacher_output or student)
        self.teacher_point = teacher_point
        self.config, self.checkpoint = teacher, checkpoint
        self.loss, self.temperature, self.weight = loss, temperature, weight

    def before_train(self, runner) -> None:
        model = unwrapped(runner.model)
        if self.config is None:
            self.teacher = self._own_copy(runner, model)
        else:
            self.teacher = MMENGINE_MODELS.build(read_config(self.config).model)
            load_checkpoint_strictly(self.teacher, self.checkpoint)
            self.teacher.to(next(model.parameters()).device)
        point = self.teacher_point or dense_operating_point(self.teacher)
        set_operating_point(self.teacher, point)
        self.teacher.eval().requires_grad_(False)
        self._outputs: dict[str, Sequence[Tensor]] = {}
        self._keep_output('teacher', self.teacher)
        self._student_handle = self._keep_output('student', model)
        super().before_train(runner)

    def after_train(self, runner) -> None:
        super().after_train(runner)
        self._student_handle.remove()

    def _own_copy(self, runner, model: nn.Module) -> nn.Module:
        teacher = copy.deepcopy(model)
        file = Path(runner.work_dir) / self.file_name
        if runner.iter > 0:
            if not file.is_file():
                raise FileNotFoundError(
                    f'to resume, the weights that training began with are needed: '
                    f'there is no {file}'
                )
            load_checkpoint_strictly(teacher, str(file))
        elif is_main_process():
            torch.save(dict(state_dict=teacher.state_dict()), file)
        barrier()
        return teacher

    def _keep_output(self, role: str, model: nn.Module) -> RemovableHandle:
        """Keep the latest output of a module, one tensor or several, in a list."""
        modules, path = dict(model.named_modules()), self.paths[role]
        if path not in modules:
            own = ', '.join(name for name, _ in model.named_children())
            what = f'the {role}, {type(model).__name__}'
            raise ValueError(f'{what}, has no module {path!r}; its own are {own}')
        return modules[path].register_forward_hook(partial(self._keep, role))

    def _keep(self, role: str, module, inputs, output: Tensor | Sequence[Tensor]) -> None:
        self._outputs[role] = [output] if isinstance(output, Tensor) else output

    def change_losses(self, model, args, kwargs, losses: dict) -> dict:
        inputs = kwargs.get('inputs', args[0] if args else None)
        with torch.no_grad():
            if self.loss == 'features':
                self.teacher.extract_feat(inputs)
            else:
                self.teacher(inputs, mode='tensor')
        student, teacher = self._outputs.pop('student'), self._outputs.pop('teacher')
        ours, theirs = (
            ', '.join(str(tuple(map_.shape)) for map_ in maps)
            for maps in (student, teacher)
        )
        if ours != theirs:
            raise ValueError(
                f'{self.paths["student"]} of the student gives {ours}, '
                f'{self.paths["teacher"]} of the teacher {theirs}'
            )
        if self.loss == 'features':
            loss = feature_distillation_loss(student, teacher)
        else:
            loss = distillation_loss(student[0], teacher[0], self.temperature)
        return dict(losses, loss_distillation=self.weight * loss)
