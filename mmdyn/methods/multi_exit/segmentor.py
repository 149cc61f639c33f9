"""A segmentor that can answer before its backbone has run to the end."""

from collections.abc import Sequence

import torch
from mmseg.models import EncoderDecoder
from mmseg.utils import add_prefix
from torch import Tensor, nn

from mmdyn.methods.multi_exit.execution import run_to_exits
from mmdyn.methods.multi_exit.model import MultiExitModel
from mmdyn.methods.multi_exit.policies import ConfidencePolicy
from mmdyn.methods.multi_exit.segmentation_heads import build_head, check_heads
from mmdyn.models.stages import Walk, cuttable
from mmdyn.registry import MODELS


@MODELS.register_module()
class MultiExitEncoderDecoder(MultiExitModel, EncoderDecoder):
    """mmseg's ``EncoderDecoder`` with exits along its backbone.

    Backbone, auxiliary head and decode head, the last exit, keep their names; there is no
    neck. All exits are trained together. In inference, images that exit leave the batch,
    and once no image remains nothing further runs.

    Its operating points are ``exit=1`` to ``exit=M``, at which no other exit's head runs,
    and those of the policy, which decides for images, or in mode ``'slide'`` of
    ``test_cfg`` for windows. Predictions carry ``exit_index``, the number (from 1) of
    their exit, or a list for their windows.

    Args:
        exits (Sequence[dict] | dict): The earlier exits in order. ``stage`` is the number
            (from 1) of the stage that one follows and ``head`` an mmseg head that takes
            one map, whose channels and classes are filled in; without it the exit shares
            the decode head. One config with ``levels``, say ``(3, 2, 1)``, stands for an
            exit after each of the last stages but one, whose ``head``, an ``FCNHead``,
            has that many convolutions, fewer from first to last (Lin et al., III-A).
        policy (dict | None): Config of an ``mmdyn.ConfidencePolicy``: thresholds of the
            mean confidence of an image's pixels. ``None``: only fixed exits.
        **stock: Arguments of ``EncoderDecoder``: a ``backbone`` that ``cut_into_stages``
            knows, the ``decode_head``, …; ``in_index`` of heads counts stages.

    Raises:
        ValueError: If exits are missing, out of order or after no stage, a head does not
            fit, the policy is for classifiers, or two operating points have one name.

    Example:
        >>> model = dict(
        ...     type='mmdyn.MultiExitEncoderDecoder',
        ...     exits=dict(head=dict(type='FCNHead', channels=128), levels=(3, 2, 1)),
        ...     policy=dict(type='mmdyn.ConfidencePolicy', thresholds=dict(quick=0.9)))
    """

    # Exits (N,) of each window of the current prediction, which encode_decode adds.
    _window_exits: list[Tensor] | None = None

    def __init__(self, exits: Sequence[dict] | dict, policy: dict | None = None, **stock):
        super().__init__(**stock)
        stages, exits = self.place_exits(exits)
        self.exits = nn.ModuleList(
            build_head(cfg, stages[number - 1], self.num_classes, self.out_channels)
            for cfg, number in zip(exits, self.exit_stages)
        )
        check_heads(self, stages)
        self.build_policy(policy)
        if not isinstance(self.policy, ConfidencePolicy):
            kind = type(self.policy).__name__
            raise ValueError(f'policy must be a mmdyn.ConfidencePolicy, got a {kind}')

    def head_at(self, exit: int) -> nn.Module:
        """The head of an exit, given by its index from 0."""
        if exit == len(self.exits) or isinstance(self.exits[exit], nn.Identity):
            return self.decode_head
        return self.exits[exit]

    def logits_at(self, exit: int, features: Tensor) -> Tensor:
        """Logits (N, K, h, w) of an exit, of the size at which its head works."""
        # mmseg's heads take a list of maps, with that of the stage at its index.
        inputs = [None] * (self.exit_stages[exit] - 1) + [features]
        logits = self.head_at(exit).forward(inputs)
        # Some heads give logits of auxiliary losses as well.
        return logits[0] if isinstance(logits, tuple) else logits

    def _forward(self, inputs: Tensor, data_samples=None) -> Tensor:
        """Logits (N, K, h, w), resized to the images where these can take other exits."""
        if 'exit' in self.operating_point.settings:
            return run_to_exits(self, inputs)[0]
        return self.encode_decode(inputs, [dict(img_shape=inputs.shape[2:])])

    def encode_decode(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Logits (N, K, H, W) of images, or of a window of each, (N, C, H, W)."""

        def resized(exit: int, logits: Tensor) -> Tensor:
            return self.head_at(exit).predict_by_feat(logits, batch_img_metas)

        logits, exits = run_to_exits(self, inputs, resized)
        if self._window_exits is not None:
            self._window_exits.append(exits)
        return logits

    def predict(self, inputs: Tensor, data_samples: list | None = None) -> list:
        """Predict at the active operating point; adds ``exit_index`` to the samples."""
        self._window_exits = []
        try:
            predictions = super().predict(inputs, data_samples)
            exits = torch.stack(self._window_exits, dim=1).tolist()  # N, windows
        finally:
            self._window_exits = None
        slides = self.test_cfg.get('mode') == 'slide'
        for prediction, windows in zip(predictions, exits):
            prediction.set_field(windows if slides else windows[0], 'exit_index')
        return predictions

    def losses_of_exits(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        """The heads' losses, like ``exit1.loss_ce``, and at last ``decode.loss_ce``."""
        ends = range(1, self.exit_stages[-1] + 1)
        features = list(Walk(cuttable(self.backbone).stages_for(ends), inputs))
        losses = {}
        for exit, stage in enumerate(self.exit_stages[:-1]):
            loss = self.head_at(exit).loss(features[:stage], data_samples, self.train_cfg)
            losses.update(add_prefix(loss, f'exit{exit + 1}'))
        # Last, so that hooks that watch a shared decode head see it at the last exit.
        losses.update(self._decode_head_forward_train(features, data_samples))
        if self.with_auxiliary_head:
            losses.update(self._auxiliary_head_forward_train(features, data_samples))
        return losses
