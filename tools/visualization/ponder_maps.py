"""Draw where in an image a spatially adaptive network computes.

White positions were computed, black ones skipped; the percentages are shares of the
positions of a block's output.

example: python tools/visualization/ponder_maps.py CONFIG CHECKPOINT \\
             --img cat.jpg --point budget=0.3 --out cat_ponder.png
"""

import argparse
import sys
from pathlib import Path

import torch

from mmdyn import at_operating_point
from mmdyn.engine.build import build_model, prepared, read_config, read_image
from mmdyn.methods.spatial.ponder_maps import draw_ponder_maps, recorded_masks
from mmdyn.operating_point import forward_statistics
from mmdyn.utils.checkpoints import load_checkpoint_strictly


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='weights')
    parser.add_argument('--img', required=True, help='image file')
    parser.add_argument('--point', required=True, help='for example budget=0.3')
    parser.add_argument(
        '--out', help='picture to write (default: <image>_<point>.png, here)'
    )
    parser.add_argument('--device', default='cpu', help='for example cuda (default: cpu)')
    args = parser.parse_args()
    for file in (args.checkpoint, args.img):
        if not Path(file).is_file():
            parser.error(f'there is no file {file}')
    args.out = args.out or f'{Path(args.img).stem}_{args.point}.png'
    return args


def main() -> None:
    args = parse_args()
    try:
        cfg = read_config(args.config)
        model = build_model(cfg).to(args.device)
        load_checkpoint_strictly(model, args.checkpoint)
        image = read_image(args.img)
        with at_operating_point(model, args.point), recorded_masks(model) as masks:
            with torch.no_grad():
                model.test_step(prepared(cfg, args.img))
            shares = forward_statistics(model)
    except (FileNotFoundError, ValueError) as error:
        sys.exit(str(error))
    if not masks:
        sys.exit(f'{args.config} has no masks at the point {args.point}')
    share = shares['executed_share']
    title = f'{args.point}: {share:.3f} of the MACs of the branches executed'
    draw_ponder_maps(image, masks, args.out, title)
    print(title)
    print('Written to', args.out)


if __name__ == '__main__':
    main()
