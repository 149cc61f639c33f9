"""Knowledge distillation from a teacher outside of the model.

Distilling the Knowledge in a Neural Network, Hinton, Vinyals, Dean, 2015.
"""

import copy
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.dist import barrier, is_main_process
from mmengine.registry import MODELS as MMENGINE_MODELS
from torch import Tensor, nn

from mmdyn.engine.build import read_config
from mmdyn.engine.loss_hook import LossHook, unwrapped
from mmdyn.models.losses import (
    distillation_loss,
    feature_distillation_loss,
)
from mmdyn.operating_point import dense_operating_point, set_operating_point
from mmdyn.registry import HOOKS
from mmdyn.utils.checkpoints import load_checkpoint_strictly
from mmdyn.utils.validation import check_choice


@HOOKS.register_module()
class DistillationHook(LossHook):
    """Add the distance of a model's outputs from a teacher's to its losses.

    The teacher gets the same preprocessed images, is in evaluation mode, has no gradients
    and is not part of checkpoints. Classifiers and segmentors learn its logits, by their
    KL divergence. Detectors, whose logits belong to their own boxes, learn the maps of
    its neck or backbone.

    Args:
        student (str): Path of the module whose output is compared, classes in dimension
            1: ``'head.fc'`` of mmpretrain's classifiers, ``'decode_head.conv_seg'`` of
            mmseg's segmentors, ``'neck'`` of mmdet's detectors with ``loss='features'``.
        teacher (str | None): Config file of the teacher, or ``PACKAGE::FILE``. ``None``:
            a frozen copy of the model at its dense operating point, as it was when
            training began. Its weights are kept in ``distillation_teacher.pth`` in the
            work directory, for resuming.
        checkpoint (str | None): The teacher's weights; needed with ``teacher``.
        teacher_output (str | None): Path of the teacher's module; ``None``: as
            ``student``.
        teacher_point (str | None): Operating point of the teacher; ``None``: its dense
            one.
        loss (str): ``'logits'``: KL divergence of logits; ``'features'``: mean squared
            difference of maps, for which the teacher's backbone and neck run alone.
        temperature (float): Divides logits before the softmax.
        weight (float): Weight of the loss.

    Raises:
        ValueError: For an unknown loss, a temperature or weight that is not positive, a
            config without a checkpoint or the reverse, or a path that the network does
            not have.

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
            raise ValueError(
                f'a teacher needs a config and a checkpoint, got teacher={teacher!r} '
                f'and checkpoint={checkpoint!r}'
            )
        check_choice('loss', loss, ('logits', 'features'))
        for name, value in dict(temperature=temperature, weight=weight).items():
            if not value > 0:
                raise ValueError(f'{name} must be above 0, got {value!r}')
        self.student_path = student
        self.teacher_path = teacher_output or student
        self.teacher_point = teacher_point
        self.config = teacher
        self.checkpoint = checkpoint
        self.loss = loss
        self.temperature = temperature
        self.weight = weight

    def before_train(self, runner) -> None:
        model = unwrapped(runner.model)
        student = _module_at(model, self.student_path, 'student')
        if self.config is None:
            self.teacher = self._own_copy(runner, model)
        else:
            self.teacher = self._from_config(model)
        point = self.teacher_point or dense_operating_point(self.teacher)
        set_operating_point(self.teacher, point)
        self.teacher.eval().requires_grad_(False)
        self._teacher_output = _Output(
            _module_at(self.teacher, self.teacher_path, 'teacher')
        )
        self._student_output = _Output(student)
        super().before_train(runner)

    def after_train(self, runner) -> None:
        super().after_train(runner)
        self._student_output.handle.remove()

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

    def _from_config(self, model: nn.Module) -> nn.Module:
        teacher = MMENGINE_MODELS.build(read_config(self.config).model)
        load_checkpoint_strictly(teacher, self.checkpoint)
        return teacher.to(next(model.parameters()).device)

    def change_losses(self, model, args, kwargs, losses: dict) -> dict:
        inputs = kwargs.get('inputs', args[0] if args else None)
        with torch.no_grad():
            if self.loss == 'features':
                self.teacher.extract_feat(inputs)
            else:
                self.teacher(inputs, mode='tensor')
        student, teacher = self._student_output.take(), self._teacher_output.take()
        shapes, expected = (
            ', '.join(str(tuple(map_.shape)) for map_ in maps)
            for maps in (student, teacher)
        )
        if shapes != expected:
            raise ValueError(
                f'{self.student_path} of the student gives {shapes}, '
                f'{self.teacher_path} of the teacher {expected}'
            )
        if self.loss == 'features':
            loss = feature_distillation_loss(student, teacher)
        else:
            loss = distillation_loss(student[0], teacher[0], self.temperature)
        return dict(losses, loss_distillation=self.weight * loss)


class _Output:
    """Holds the latest output of a module, one tensor or several, until it is taken."""

    def __init__(self, module: nn.Module):
        self.value = None
        self.handle = module.register_forward_hook(self._keep)

    def _keep(self, module, inputs, output) -> None:
        self.value = output

    def take(self) -> Sequence[Tensor]:
        value, self.value = self.value, None
        return [value] if isinstance(value, Tensor) else value


def _module_at(model: nn.Module, path: str, role: str) -> nn.Module:
    modules = dict(model.named_modules())
    if path not in modules:
        top = ', '.join(name for name, _ in model.named_children())
        raise ValueError(
            f'the {role}, {type(model).__name__}, has no module {path!r}; its own are '
            f'{top}'
        )
    return modules[path]
