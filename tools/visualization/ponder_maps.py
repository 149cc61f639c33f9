"""Draw where in an image a spatially adaptive network computes.

White positions were computed, black ones skipped; the percentages are shares of the
positions of a block's output.

example: python tools/visualization/ponder_maps.py CONFIG CHECKPOINT \\
             --img cat.jpg --point budget=0.3 --out cat_ponder.png
"""

import argparse
import sys
from pathlib import Path

from mmdyn.utils.command_line import (
    add_device,
    check_files,
    check_folder_of,
    exit_on,
    tool_parser,
)


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__, 'config', 'checkpoint')
    parser.add_argument('--img', required=True, metavar='FILE', help='image file')
    parser.add_argument('--point', required=True, help='for example budget=0.3')
    parser.add_argument(
        '--out', metavar='FILE', help='picture (default: <image>_<point>.png, here)'
    )
    add_device(parser)
    args = parser.parse_args()
    check_files(parser, [args.checkpoint, args.img])
    args.out = args.out or f'{Path(args.img).stem}_{args.point}.png'
    check_folder_of(parser, '--out', args.out)
    return args


def main() -> None:
    args = parse_args()

    import torch

    from mmdyn import at_operating_point
    from mmdyn.engine.build import build_model, prepared, read_config, read_image
    from mmdyn.methods.spatial.ponder_maps import draw_ponder_maps, recorded_masks
    from mmdyn.operating_point import forward_statistics
    from mmdyn.utils.checkpoints import load_checkpoint_strictly

    with exit_on(FileNotFoundError, ValueError):
        cfg = read_config(args.config)
        model = build_model(cfg).to(args.device)
        load_checkpoint_strictly(model, args.checkpoint)
        image = read_image(args.img)
        with at_operating_point(model, args.point), recorded_masks(model) as masks:
            with torch.no_grad():
                model.test_step(prepared(cfg, args.img))
            statistics = forward_statistics(model)
    if not masks:
        sys.exit(f'{args.config} has no masks at the point {args.point}')
    share = statistics['executed_share']
    title = f'{args.point}: {share:.3f} of the MACs of the branches executed'
    draw_ponder_maps(image, masks, args.out, title)
    print(title)
    print('Written to', args.out)


if __name__ == '__main__':
    main()
