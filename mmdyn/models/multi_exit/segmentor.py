"""A segmentor that can answer before its backbone has run to the end."""

from __future__ import annotations

from collections.abc import Sequence

from mmseg.models import EncoderDecoder
from mmseg.utils import add_prefix
from torch import Tensor, nn

from mmdyn.registry import MODELS

from .base import MultiExitModel, run
from .stages import Stage, cut_into_stages

__all__ = ['MultiExitEncoderDecoder']


@MODELS.register_module()
class MultiExitEncoderDecoder(MultiExitModel, EncoderDecoder):
    """mmseg's ``EncoderDecoder`` with exits along its backbone.

    Backbone, decode head and auxiliary head are those of the stock segmentor, under the
    same names; the decode head is the last exit. There is no neck. All exits are trained
    together, with the sum of their losses. In inference the backbone stops at the exit,
    and no other exit's head runs.

    Its operating points are ``exit=1`` to ``exit=M`` and those found by a search.

    Args:
        backbone (dict): A backbone that ``cut_into_stages`` knows.
        decode_head (dict): mmseg head of the last exit.
        exits (Sequence[dict]): The earlier exits from first to last. In each, ``stage``
            is the number (from 1) of the stage that it follows and ``head`` an mmseg
            head, whose ``in_channels``, ``num_classes`` and ``out_channels`` are filled
            in where it is silent. Without a ``head`` the exit shares the decode head.
        auxiliary_head (dict | list | None): As in ``EncoderDecoder``; ``in_index`` counts
            the stages.
        train_cfg (dict | None): As in ``EncoderDecoder``.
        test_cfg (dict | None): As in ``EncoderDecoder``.
        data_preprocessor (dict | None): As in ``EncoderDecoder``.
        pretrained (str | None): Checkpoint to start the backbone from, if it takes one.
        init_cfg (dict | list | None): Initialisation.

    Raises:
        ValueError: If exits are missing, out of order or behind no stage, or a head does
            not fit its stage.
    """

    def __init__(
        self,
        backbone: dict,
        decode_head: dict,
        exits: Sequence[dict],
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
        self.policy = None
        stages = self.place_exits(exits)
        self.exits = nn.ModuleList(
            self._build_exit(cfg, stages[number - 1])
            for cfg, number in zip(exits, self.exit_stages)
        )
        for exit, number in enumerate(self.exit_stages):
            self._check_head(exit, number, stages[number - 1])

    def _build_exit(self, cfg: dict, stage: Stage) -> nn.Module:
        """The head of an early exit; a place holder where it shares the decode head."""
        unknown = set(cfg) - {'stage', 'head'}
        if unknown:
            raise ValueError(f"exits have a 'stage' and a 'head', got {sorted(unknown)}")
        if cfg.get('head') is None:
            return nn.Identity()
        filled = dict(
            in_channels=stage.out_channels,
            num_classes=self.num_classes,
            out_channels=self.out_channels,
        )
        return MODELS.build({**filled, **cfg['head']})

    def _check_head(self, exit: int, number: int, stage: Stage) -> None:
        """Check that a head takes what its stage gives, and gives what the others do."""
        head = self.head_at(exit)
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

    def _features(self, inputs: Tensor) -> tuple[int, list[Tensor | None]]:
        """The exit in force, and what its head takes."""
        settings = self.operating_point.settings
        exit = settings['exit'] - 1
        (part,) = self.parts([exit], settings)
        return exit, self._inputs_at(exit, run(part, inputs)[1])

    def _forward(self, inputs: Tensor, data_samples=None) -> Tensor:
        """Compute the head's logits (N, K, h, w) of images (N, C, H, W)."""
        exit, features = self._features(inputs)
        return self.head_at(exit).forward(features)

    def encode_decode(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Compute logits (N, K, H, W) of images (N, C, H, W)."""

        def logits_of_one() -> Tensor:
            exit, features = self._features(inputs)
            return self.head_at(exit).predict(features, batch_img_metas, self.test_cfg)

        return self.average_of_draws(logits_of_one)

    def loss(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        """Compute the losses of all exits.

        Args:
            inputs (Tensor): Images of shape (N, C, H, W).
            data_samples (list): Their annotations.

        Returns:
            dict[str, Tensor]: Losses with names like ``exit1.loss_ce``, those of the last
            exit ``decode.loss_ce`` as in the stock segmentor.
        """
        features, x = [], inputs
        for stage in cut_into_stages(self.backbone):
            x = stage.forward(x)
            features.append(stage.features(x))
        losses = self._decode_head_forward_train(features, data_samples)
        for exit, stage in enumerate(self.exit_stages[:-1]):
            loss = self.head_at(exit).loss(features[:stage], data_samples, self.train_cfg)
            losses.update(add_prefix(loss, f'exit{exit + 1}'))
        if self.with_auxiliary_head:
            losses.update(self._auxiliary_head_forward_train(features, data_samples))
        return losses
