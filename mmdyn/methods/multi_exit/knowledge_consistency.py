"""Knowledge consistency: reconstruction of a plain backbone's features from another's.

A Closer Look at Branch Classifiers of Multi-exit Architectures, Lin et al., section IV-C,
after Knowledge Consistency between Neural Networks and Beyond, Liang et al.
"""

from collections.abc import Callable, Sequence

import torch
from mmcv.cnn import ConvModule
from mmengine.model import BaseModel, revert_sync_batchnorm
from mmpretrain.models import ImageClassifier
from mmpretrain.structures import DataSample
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from mmdyn.methods.multi_exit.classifier import require_classifier
from mmdyn.models.stages import Stage, Walk, cut_into_stages, identity
from mmdyn.operating_point import DENSE, DynamicModule, OperatingPoint
from mmdyn.registry import MODELS
from mmdyn.utils.checkpoints import load_checkpoint_strictly
from mmdyn.utils.validation import check_choice


def reconstruction(in_channels: int, out_channels: int, layers: int) -> nn.Sequential:
    """F_N ∘ … ∘ F_0 of Eq. 4, for N ``layers``, with 3×3 convolutions.

    F_0 is one convolution, each of F_1 to F_N a convolution, a batch norm and a ReLU, so
    that outputs are never negative if N ≥ 1. Height and width stay.
    """
    linear = nn.Conv2d(in_channels, out_channels, 3, padding=1)
    others = [
        ConvModule(out_channels, out_channels, 3, padding=1, norm_cfg=dict(type='BN'))
        for _ in range(layers)
    ]
    return nn.Sequential(linear, *others)


@MODELS.register_module()
class KnowledgeConsistency(DynamicModule, BaseModel):
    """Reconstructs the features of a plain network from those of one with exits.

    For each stage i but the last and each N of ``layers``, F_N ∘ … ∘ F_0 learns, by the
    mean squared error, to map the features Z_i of the multi-exit network to the
    baseline's features Z_i^b (Eq. 4). At the operating point ``stage=i,layers=N`` the
    rest of the baseline runs on the reconstruction, at ``dense`` the baseline runs alone:
    the closer their accuracies, the less the exits disrupted the backbone. Both networks
    are frozen and no submodules: parameters, checkpoints and modes leave them out.

    Args:
        multi_exit (dict | nn.Module): An ``mmdyn.MultiExitClassifier``.
        baseline (dict | nn.Module): An ``ImageClassifier`` whose backbone has the same
            stages, each of which takes only the features of the one before it.
        multi_exit_checkpoint (str | None): Weights of ``multi_exit``, if it is a config.
        baseline_checkpoint (str | None): Weights of ``baseline``, if it is a config.
        layers (Sequence[int]): The N to compare; 0 is a linear map.
        data_preprocessor (dict | nn.Module | None): ``None``: that of the two networks,
            which have to agree.

    Raises:
        ValueError: For a network of another type, a config without a checkpoint or the
            reverse, a checkpoint that does not fit, stages or preprocessors that differ,
            or ``layers`` that are not different.

    Example:
        >>> model = dict(
        ...     type='mmdyn.KnowledgeConsistency',
        ...     multi_exit=dict(type='mmdyn.MultiExitClassifier', ...),
        ...     multi_exit_checkpoint='multi_exit.pth',
        ...     baseline=dict(type='ImageClassifier', ...),
        ...     baseline_checkpoint='baseline.pth')
    """

    def __init__(
        self,
        multi_exit: dict | nn.Module,
        baseline: dict | nn.Module,
        multi_exit_checkpoint: str | None = None,
        baseline_checkpoint: str | None = None,
        layers: Sequence[int] = (0, 1, 2, 3),
        data_preprocessor: dict | nn.Module | None = None,
    ):
        multi_exit = _frozen('multi_exit', multi_exit, multi_exit_checkpoint)
        baseline = _frozen('baseline', baseline, baseline_checkpoint)
        _check_networks(multi_exit, baseline)
        if data_preprocessor is None:
            data_preprocessor = _common_preprocessor(multi_exit, baseline)
        elif isinstance(data_preprocessor, dict):
            data_preprocessor = {'type': 'ClsDataPreprocessor', **data_preprocessor}
        super().__init__(data_preprocessor=data_preprocessor)
        # In a tuple, so that they are no submodules.
        self._networks = multi_exit, baseline
        self.layers = tuple(layers)
        valid = all(isinstance(n, int) and n >= 0 for n in self.layers)
        if not self.layers or not valid or len(set(self.layers)) < len(self.layers):
            raise ValueError(
                f'layers must be different numbers from 0 on, got {self.layers}'
            )
        channels = [[stage.out_channels for stage in each] for each in self._stages()]
        pairs = list(zip(*channels))[:-1]
        self._places = [(i, n) for i in range(1, len(pairs) + 1) for n in self.layers]
        self.reconstructions = nn.ModuleDict(
            {_key(i, n): reconstruction(*pairs[i - 1], n) for i, n in self._places}
        )

    def _apply(self, fn: Callable, *args, **kwargs):
        # Moves and casts of submodules have to reach the frozen networks too.
        for network in self._networks:
            network._apply(fn, *args, **kwargs)
        return super()._apply(fn, *args, **kwargs)

    def _stages(self) -> list[list[Stage]]:
        return [cut_into_stages(network.backbone) for network in self._networks]

    @property
    def operating_points(self) -> tuple[OperatingPoint, ...]:
        """Stages from first to last, in each the N of ``layers``; last the baseline."""
        reconstructed = (
            OperatingPoint(f'stage={i},layers={n}', dict(stage=i, layers=n))
            for i, n in self._places
        )
        return (*reconstructed, DENSE)

    def forward(
        self,
        inputs: Tensor,
        data_samples: list[DataSample] | None = None,
        mode: str = 'tensor',
    ):
        """Logits (N, K) of images (N, C, H, W) at the active operating point.

        Or, by ``mode``, its predictions (``'predict'``), or all points' losses
        (``'loss'``).
        """
        check_choice('mode', mode, ('tensor', 'predict', 'loss'))
        if mode == 'loss':
            return self.loss(inputs)
        head, features = self._networks[1].head, self._head_inputs(inputs)
        return (
            head.predict(features, data_samples) if mode == 'predict' else head(features)
        )

    def loss(self, inputs: Tensor) -> dict[str, Tensor]:
        """Mean squared errors of all reconstructions, named like ``loss_stage1_n0``."""
        with torch.no_grad():
            features, targets = (
                list(Walk([[stage] for stage in stages[:-1]], inputs))
                for stages in self._stages()
            )
        losses = {}
        for i, n in self._places:
            found = self.reconstructions[_key(i, n)](features[i - 1])
            losses[f'loss_{_key(i, n)}'] = mse_loss(found, targets[i - 1])
        return losses

    def _head_inputs(self, x: Tensor) -> tuple[Tensor, ...]:
        """Inputs of the baseline's head at the active operating point."""
        settings = self.operating_point.settings
        ours, theirs = self._stages()
        stage = settings.get('stage', 0)
        if stage:
            x = self.reconstructions[_key(**settings)](next(Walk([ours[:stage]], x)))
        features = (next(Walk([theirs[stage:]], x)),)
        baseline = self._networks[1]
        return baseline.neck(features) if baseline.with_neck else features


def _key(stage: int, layers: int) -> str:
    return f'stage{stage}_n{layers}'


def _frozen(name: str, network: dict | nn.Module, checkpoint: str | None) -> nn.Module:
    if isinstance(network, dict) == (checkpoint is None):
        raise ValueError(
            f'{name} needs either a config and {name}_checkpoint or a module, got '
            f'{type(network).__name__} and {checkpoint!r}'
        )
    if isinstance(network, dict):
        network = revert_sync_batchnorm(MODELS.build(network))
        load_checkpoint_strictly(network, checkpoint)
    return network.eval().requires_grad_(False)


def _check_networks(multi_exit: nn.Module, baseline: nn.Module) -> None:
    require_classifier(multi_exit, 'multi_exit must be')
    if not (isinstance(baseline, ImageClassifier) and baseline.with_head):
        kind = type(baseline).__name__
        raise ValueError(f'baseline must be an ImageClassifier with a head, got a {kind}')
    stages = [cut_into_stages(network.backbone) for network in (multi_exit, baseline)]
    ours, theirs = ([stage.stride for stage in each] for each in stages)
    if ours != theirs:
        raise ValueError(
            f'both backbones need stages of the same number and strides; multi_exit: '
            f'{len(ours)} of strides {ours}, baseline: {len(theirs)} of strides {theirs}'
        )
    if any(stage.features is not identity for stage in stages[1]):
        raise ValueError(
            'the stages of the baseline pass on more than their features, which cannot '
            'be replaced then'
        )


def _common_preprocessor(multi_exit: nn.Module, baseline: nn.Module) -> nn.Module:
    ours, theirs = (_preprocessing(network) for network in (multi_exit, baseline))
    if ours != theirs:
        raise ValueError(
            f'both networks must preprocess images alike; multi_exit: {ours}, baseline: '
            f'{theirs}'
        )
    return multi_exit.data_preprocessor


def _preprocessing(network: nn.Module) -> dict:
    settings = {}
    for name in ('mean', 'std', 'to_rgb', 'pad_size_divisor', 'pad_value'):
        value = getattr(network.data_preprocessor, name, None)
        settings[name] = value.flatten().tolist() if isinstance(value, Tensor) else value
    return settings
