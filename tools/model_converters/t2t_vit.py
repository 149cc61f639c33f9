"""Convert weights of the authors' T2T-ViT to those of a classifier on mmdyn.T2TViT.

For checkpoints with performer layers in tokens-to-token, as the published T2T-ViT-7 to
-24 have them, and those of the authors' transfer learning. Of two sets of weights the
moving average is taken.

The result fits an ImageClassifier with a LinearClsHead, and the last exit of a
MultiExitClassifier with one, by `load_from`; for the backbone alone there is
init_cfg=dict(type='Pretrained', checkpoint=DST, prefix='backbone.').

example: python tools/model_converters/t2t_vit.py T2T_ViT_7.pth.tar t2t-vit-7.pth
"""

import re
import sys
from pathlib import Path

from mmdyn.utils.command_line import tool_parser

PERFORMER_WEIGHTS = ('tokens_to_token.attention1.w', 'tokens_to_token.attention2.w')

_AFFINE = r'(weight|bias)'
# Their keys, as patterns, and ours; other keys belong to another network.
RENAMED = [
    (re.compile(pattern), name)
    for pattern, name in (
        (r'(cls_token|pos_embed)', r'backbone.\1'),
        (
            r'tokens_to_token\.attention([12])\.'
            rf'(w|(?:kqv|proj|norm1|norm2|mlp\.0|mlp\.2)\.{_AFFINE})',
            r'backbone.tokens_to_token.attention\1.\2',
        ),
        (rf'tokens_to_token\.project\.{_AFFINE}', r'backbone.tokens_to_token.project.\1'),
        (rf'blocks\.(\d+)\.norm([12])\.{_AFFINE}', r'backbone.encoder.\1.ln\2.\3'),
        (r'blocks\.(\d+)\.attn\.qkv\.weight', r'backbone.encoder.\1.attn.qkv.weight'),
        (rf'blocks\.(\d+)\.attn\.proj\.{_AFFINE}', r'backbone.encoder.\1.attn.proj.\2'),
        (
            rf'blocks\.(\d+)\.mlp\.fc1\.{_AFFINE}',
            r'backbone.encoder.\1.ffn.layers.0.0.\2',
        ),
        (rf'blocks\.(\d+)\.mlp\.fc2\.{_AFFINE}', r'backbone.encoder.\1.ffn.layers.1.\2'),
        (rf'norm\.{_AFFINE}', r'backbone.norm.\1'),
        (rf'head\.{_AFFINE}', r'head.fc.\1'),
    )
]


def unwrapped(checkpoint: dict) -> dict:
    """The weights in a checkpoint, by their names in the authors' model."""
    for wrapper in ('state_dict_ema', 'state_dict', 'net'):
        if wrapper in checkpoint:
            checkpoint = checkpoint[wrapper]
            break
    return {key.removeprefix('module.'): value for key, value in checkpoint.items()}


def convert(state_dict: dict) -> dict:
    """Rename the weights of a T2T-ViT.

    Args:
        state_dict (dict[str, Tensor]): Weights by the authors' names.

    Returns:
        dict[str, Tensor]: The same weights by the names of an ``ImageClassifier`` with an
        ``mmdyn.T2TViT`` and a ``LinearClsHead``.

    Raises:
        ValueError: If they are not those of a T2T-ViT with performer layers.
    """
    names = {key: _renamed(key) for key in state_dict}
    unknown = [key for key, name in names.items() if name is None]
    if unknown:
        raise ValueError(
            f'not a T2T-ViT with performer layers, which has no {_listed(unknown)}'
        )
    missing = [key for key in PERFORMER_WEIGHTS if key not in state_dict]
    if missing:
        raise ValueError(
            f'not a T2T-ViT with performer layers: there is no {_listed(missing)}'
        )
    return {name: state_dict[key] for key, name in names.items()}


def _renamed(key: str) -> str | None:
    for pattern, name in RENAMED:
        match = pattern.fullmatch(key)
        if match:
            return match.expand(name)
    return None


def _listed(keys: list[str], most: int = 3) -> str:
    more = f' and {len(keys) - most} more' if len(keys) > most else ''
    return ', '.join(keys[:most]) + more


def main() -> None:
    parser = tool_parser(__doc__)
    parser.add_argument('src', metavar='SRC', help="the authors' checkpoint")
    parser.add_argument('dst', metavar='DST', type=Path, help='file to write')
    args = parser.parse_args()

    import torch
    from mmengine.runner.checkpoint import CheckpointLoader

    try:
        checkpoint = CheckpointLoader.load_checkpoint(args.src, map_location='cpu')
        converted = convert(unwrapped(checkpoint))
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f'{args.src}: {error}')
    args.dst.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(state_dict=converted), args.dst)
    print(f'{args.dst}: {len(converted)} tensors')


if __name__ == '__main__':
    main()
