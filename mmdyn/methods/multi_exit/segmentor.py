"""A segmentor that can answer before its backbone has run to the end."""

from collections.abc import Sequence
from inspect import signature

import torch
from mmseg.models import EncoderDecoder
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.utils import add_prefix
from torch import Tensor, nn
from torch.nn.functional import interpolate

from mmdyn.methods.multi_exit.exits import exits_of_levels
from mmdyn.methods.multi_exit.model import MultiExitModel
from mmdyn.methods.multi_exit.objectives import SumOfExits
from mmdyn.methods.multi_exit.policies import ConfidencePolicy
from mmdyn.models.stages import Stage, Walk, cuttable
from mmdyn.registry import MODELS


@MODELS.register_module()
class MultiExitEncoderDecoder(MultiExitModel, EncoderDecoder):
    """mmseg's ``EncoderDecoder`` with exits along its backbone.

    Backbone, decode head and auxiliary head are those of the stock segmentor, under the
    same names; the decode head is the last exit. There is no neck. All exits are trained
    together, with the sum of their losses. In inference the backbone stops at the exit:
    images that leave are out of the batch, later stages and heads see only the rest, and
    where no image is left nothing further runs.

    Its operating points are ``exit=1`` to ``exit=M``, at which no other exit's head runs,
    and those of the policy. It decides for whole images; with ``test_cfg`` in mode
    ``'slide'`` for each window, so that regions of an image leave at different exits.
    Predictions carry ``exit_index``, the number (from 1) of the exit that they come from,
    or the list of their windows' numbers.

    Args:
        backbone (dict): A backbone that ``cut_into_stages`` knows.
        decode_head (dict): mmseg head of the last exit, as of the others.
        exits (Sequence[dict] | dict): The earlier exits from first to last. In each,
            ``stage`` is the number (from 1) of the stage that it follows and ``head`` an
            mmseg head that takes one map and gives one, whose ``in_channels``,
            ``num_classes`` and ``out_channels`` are filled in where it is silent. Without
            a ``head`` the exit shares the decode head. One config with ``levels``, say
            ``(3, 2, 1)``, stands for an exit behind each of the last stages but one,
            whose ``head``, an ``FCNHead``, has that many convolutions: complexity that
            decreases from the first to the last (Lin et al., section III-A).
        policy (dict | None): Config of what decides who leaves, an
            ``mmdyn.ConfidencePolicy``: thresholds of the mean confidence of an image's
            pixels. ``None``: only fixed exits.
        auxiliary_head (dict | list | None): As in ``EncoderDecoder``; ``in_index`` counts
            the stages.
        train_cfg (dict | None): As in ``EncoderDecoder``.
        test_cfg (dict | None): As in ``EncoderDecoder``.
        data_preprocessor (dict | None): As in ``EncoderDecoder``.
        pretrained (str | None): Checkpoint to start the backbone from, if it takes one.
        init_cfg (dict | list | None): Initialisation.

    Raises:
        ValueError: If exits are missing, out of order or behind no stage, a head does
            not fit its stage, the policy is for classifiers, or two operating points
            have one name.

    Example:
        >>> model = dict(
        ...     type='mmdyn.MultiExitEncoderDecoder',
        ...     exits=dict(head=dict(type='FCNHead', channels=128), levels=(3, 2, 1)),
        ...     policy=dict(type='mmdyn.ConfidencePolicy', thresholds=dict(quick=0.9)))
    """

    def __init__(
        self,
        backbone: dict,
        decode_head: dict,
        exits: Sequence[dict] | dict,
        policy: dict | None = None,
        auxiliary_head: dict | list | None = None,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        data_preprocessor: dict | None = None,
        pretrained: str | None = None,
        init_cfg: dict | list | None = None,
    ):
        super().__init__(
            backbone=backbone,
            decode_head=decode_head,
            auxiliary_head=auxiliary_head,
            train_cfg=train_cfg,
            test_cfg=test_cfg,
            data_preprocessor=data_preprocessor,
            pretrained=pretrained,
            init_cfg=init_cfg,
        )
        if isinstance(exits, dict):
            exits = exits_of_levels(exits, len(self.cut_backbone()))
        stages = self.place_exits(exits)
        self.exits = nn.ModuleList(
            self._build_exit(cfg, stages[number - 1])
            for cfg, number in zip(exits, self.exit_stages)
        )
        for exit, number in enumerate(self.exit_stages):
            self._check_head(exit, number, stages[number - 1])
        if self.with_auxiliary_head:
            heads = self.auxiliary_head
            for head in heads if isinstance(heads, nn.ModuleList) else [heads]:
                _check_auxiliary_head(head, stages)
        self.build_policy(policy)
        if not isinstance(self.policy, ConfidencePolicy):
            raise ValueError(
                f'the policy of a segmentor must be a mmdyn.ConfidencePolicy, got a '
                f'{type(self.policy).__name__}'
            )
        self.objective = SumOfExits()
        self._exits_of_windows: list[Tensor] = []

    def _build_exit(self, cfg: dict, stage: Stage) -> nn.Module:
        """The head of an early exit; a place holder where it shares the decode head."""
        unknown = set(cfg) - {'stage', 'head', 'level'}
        if unknown:
            raise ValueError(
                f"exits have a 'stage', a 'head' and, in its place, 'levels', got "
                f'{sorted(unknown)}'
            )
        if cfg.get('head') is None:
            return nn.Identity()
        filled = dict(
            in_channels=stage.out_channels,
            num_classes=self.num_classes,
            out_channels=self.out_channels,
        )
        if 'level' not in cfg:
            return MODELS.build({**filled, **cfg['head']})
        with MODELS.switch_scope_and_registry(None) as registry:
            head_type = registry.get(cfg['head']['type'])
        if 'num_convs' not in signature(head_type).parameters:
            raise ValueError(
                f'levels are numbers of convolutions, num_convs of an FCNHead, which a '
                f'{head_type.__name__} does not have'
            )
        return MODELS.build({**filled, 'num_convs': cfg['level'], **cfg['head']})

    def _check_head(self, exit: int, number: int, stage: Stage) -> None:
        """Check that a head takes what its stage gives, and gives what the others do."""
        head = self.head_at(exit)
        if not isinstance(head, BaseDecodeHead) or head.input_transform is not None:
            raise ValueError(
                f'the head of exit {exit + 1}, a {type(head).__name__}, must be an mmseg '
                f'head that takes one map and gives one, such as FCNHead'
            )
        if head.in_index not in (-1, number - 1):
            raise ValueError(
                f'the head of exit {exit + 1} has in_index={head.in_index}, but takes '
                f'the features of stage {number}: in_index must be -1 or {number - 1}'
            )
        if head.in_channels != stage.out_channels:
            raise ValueError(
                f'the head of exit {exit + 1} has in_channels={head.in_channels}, but '
                f'stage {number} gives {stage.out_channels}'
            )
        if (head.num_classes, head.out_channels) != (self.num_classes, self.out_channels):
            raise ValueError(
                f'the head of exit {exit + 1} has num_classes={head.num_classes} and '
                f'out_channels={head.out_channels}, the decode head '
                f'{self.num_classes} and {self.out_channels}'
            )

    def head_at(self, exit: int) -> nn.Module:
        """The head of an exit, from 0."""
        if exit == len(self.exits) or isinstance(self.exits[exit], nn.Identity):
            return self.decode_head
        return self.exits[exit]

    def _inputs_at(self, exit: int, features: Tensor) -> list[Tensor | None]:
        """What an exit's head takes: a list with features at its stage's place."""
        return [None] * (self.exit_stages[exit] - 1) + [features]

    def logits_at(self, exit: int, features: Tensor) -> Tensor:
        """Compute the logits of one exit.

        Args:
            exit (int): Place of the exit, from 0.
            features (Tensor): Features of the stage before it.

        Returns:
            Tensor: Logits (N, K, h, w), of the size at which the head works.
        """
        logits = self.head_at(exit).forward(self._inputs_at(exit, features))
        # Some heads give logits of auxiliary losses as well.
        return logits[0] if isinstance(logits, tuple) else logits

    def _forward(self, inputs: Tensor, data_samples=None) -> Tensor:
        """Compute logits (N, K, h, w) of images (N, C, H, W).

        They have the size at which the exit's head works, and that of the images where
        these can leave at several exits.
        """
        if 'exit' in self.operating_point.settings:
            return self.run_to_exits(inputs)[0]

        def resized(exit: int, logits: Tensor) -> Tensor:
            align = self.head_at(exit).align_corners
            size = inputs.shape[2:]
            return interpolate(logits, size, mode='bilinear', align_corners=align)

        return self.run_to_exits(inputs, resized)[0]

    def encode_decode(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Compute logits (N, K, H, W) of images (N, C, H, W)."""

        def resized(exit: int, logits: Tensor) -> Tensor:
            return self.head_at(exit).predict_by_feat(logits, batch_img_metas)

        logits, exits = self.run_to_exits(inputs, resized)
        self._exits_of_windows.append(exits)
        return logits

    def predict(self, inputs: Tensor, data_samples: list | None = None) -> list:
        """Predict at the active operating point.

        Args:
            inputs (Tensor): Images of shape (N, C, H, W).
            data_samples (list | None): Samples to write predictions to.

        Returns:
            list: Samples with the segmentation, logits and ``exit_index``.
        """
        self._exits_of_windows.clear()
        predictions = super().predict(inputs, data_samples)
        exits = torch.stack(self._exits_of_windows, dim=1).tolist()  # N, windows
        slides = self.test_cfg.get('mode') == 'slide'
        for prediction, windows in zip(predictions, exits):
            prediction.set_field(windows if slides else windows[0], 'exit_index')
        return predictions

    def losses_of_exits(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        """Compute the losses of all exits.

        Args:
            inputs (Tensor): Images of shape (N, C, H, W).
            data_samples (list): Their annotations.

        Returns:
            dict[str, Tensor]: Losses with names like ``exit1.loss_ce``, those of the last
            exit ``decode.loss_ce`` as in the stock segmentor.
        """
        ends = range(1, self.exit_stages[-1] + 1)
        features = list(Walk(cuttable(self.backbone).stages_for(ends), inputs))
        losses = {}
        for exit, stage in enumerate(self.exit_stages[:-1]):
            loss = self.head_at(exit).loss(features[:stage], data_samples, self.train_cfg)
            losses.update(add_prefix(loss, f'exit{exit + 1}'))
        # Last, for what watches the decode head, which early exits may share.
        losses.update(self._decode_head_forward_train(features, data_samples))
        if self.with_auxiliary_head:
            losses.update(self._auxiliary_head_forward_train(features, data_samples))
        return losses


def _check_auxiliary_head(head: nn.Module, stages: list[Stage]) -> None:
    """Check that a head of training alone takes what the stage of its index gives."""
    channels = [stage.out_channels for stage in stages]
    if head.input_transform is not None:
        return
    if not -len(stages) <= head.in_index < len(stages):
        raise ValueError(
            f'auxiliary_head has in_index={head.in_index}: it must lie in '
            f'{-len(stages)}…{len(stages) - 1}'
        )
    if head.in_channels != channels[head.in_index]:
        raise ValueError(
            f'auxiliary_head has in_channels={head.in_channels} for '
            f'in_index={head.in_index}, but the stages give {channels}'
        )
