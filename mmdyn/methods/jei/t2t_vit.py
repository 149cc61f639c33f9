"""Tokens-to-Token ViT, Yuan et al., ICCV 2021, with performer layers in tokens-to-token.

The backbone of JEI-DNN and of the published T2T-ViT-7 to -24, whose weights
``tools/model_converters/t2t_vit.py`` converts; mmpretrain's has transformer layers there.
"""

from mmpretrain.models.backbones import T2T_ViT
from torch.nn.functional import scaled_dot_product_attention

from mmdyn.methods.jei.token_performer import TokenPerformer
from mmdyn.registry import MODELS
from mmdyn.utils.validation import check_choice, check_counts


@MODELS.register_module()
class T2TViT(T2T_ViT):
    """T2T-ViT with performer layers in tokens-to-token.

    Gives the class token (N, C) after the last layer and its norm. For images of another
    size than ``img_size`` the position embedding is resized.

    mmpretrain's T2T_ViT multiplies q·k by √d, d being the channels of a head; here it is
    divided by √d, as in the code of the published weights.

    Args:
        arch (str | dict): Number of layers, ``'7'``, ``'10'``, ``'12'``, ``'14'``,
            ``'19'`` or ``'24'``; or a dict with ``embed_dims``, ``num_layers``,
            ``num_heads`` and ``feedforward_channels``.
        img_size (int): Height and width of the images, at least 16.
        in_channels (int): Channels of the images.
        token_dims (int): Channels of the tokens inside tokens-to-token.
        drop_rate (float): Dropout behind the position embedding.
        drop_path_rate (float): Stochastic depth of the last layer; it grows from 0.
        init_cfg (dict | list | None): Initialisation.

    Raises:
        ValueError: For an unknown ``arch``, one whose heads do not divide the channels,
            or images that have no token.

    Example:
        >>> model = dict(
        ...     backbone=dict(type='mmdyn.T2TViT', arch='7'),
        ...     head=dict(type='LinearClsHead', num_classes=10, in_channels=256))
    """

    arch_settings = {
        str(depth): dict(
            embed_dims=width,
            num_layers=depth,
            num_heads=width // 64,
            feedforward_channels=width * (2 if depth < 14 else 3),
        )
        for depth, width in {7: 256, 10: 256, 12: 256, 14: 384, 19: 448, 24: 512}.items()
    }

    def __init__(
        self,
        arch: str | dict,
        img_size: int = 224,
        in_channels: int = 3,
        token_dims: int = 64,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        init_cfg: dict | list | None = [
            dict(type='TruncNormal', layer='Linear', std=0.02),
            dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0),
        ],
    ):
        layers = self._settings_of(arch)
        check_counts(img_size=img_size, in_channels=in_channels)
        if img_size < 16:
            raise ValueError(f'img_size must be 16 or more, one token, got {img_size}')
        super().__init__(
            img_size=img_size,
            in_channels=in_channels,
            embed_dims=layers['embed_dims'],
            num_layers=layers.pop('num_layers'),
            drop_rate=drop_rate,
            drop_path_rate=drop_path_rate,
            t2t_cfg=dict(token_dims=token_dims),
            layer_cfgs=layers,
            init_cfg=init_cfg,
        )
        self.tokens_to_token.attention1 = TokenPerformer(in_channels * 7 * 7, token_dims)
        self.tokens_to_token.attention2 = TokenPerformer(token_dims * 3 * 3, token_dims)
        for layer in self.encoder:  # torch's own divides by √d
            layer.attn.scaled_dot_product_attention = scaled_dot_product_attention

    def _settings_of(self, arch: str | dict) -> dict[str, int]:
        if not isinstance(arch, dict):
            check_choice('arch', arch, tuple(self.arch_settings))
            return dict(self.arch_settings[arch])
        needed = set(self.arch_settings['7'])
        if set(arch) != needed:
            raise ValueError(f'arch needs the keys {sorted(needed)}, got {sorted(arch)}')
        check_counts(**arch)
        width, heads = arch['embed_dims'], arch['num_heads']
        if width % heads:
            raise ValueError(
                f'embed_dims must be a multiple of num_heads, got {width} and {heads}'
            )
        return dict(arch)
