"""Folders of digit scenes in the form of Cityscapes and of PASCAL VOC."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from digit_scenes import Digits, Form, Scene, draw_scene
from PIL import Image

SEED = 0

CITYSCAPES = Form(height=96, width=192, counts=(3, 6), sizes=(28, 48), extent=max)
CITYSCAPES_TRAIN, CITYSCAPES_VAL = 200, 80

# The stock config does not train on boxes whose xmax − xmin or ymax − ymin is less than
# 32, so digits are larger than in Cityscapes.
VOC = Form(height=128, width=128, counts=(2, 4), sizes=(34, 40), extent=min)
VOC_TRAINVAL, VOC_TEST = 100, 80
VOC_NAMES = (
    *('aeroplane', 'bicycle', 'bird', 'boat', 'bottle'),
    *('bus', 'car', 'cat', 'chair', 'cow'),
)


def write_cityscapes(out: Path, train: Digits, held_out: Digits) -> dict[str, int]:
    """Write scenes and masks of train ids; returns how many images each split has."""
    rng = np.random.default_rng(SEED)
    splits = ['train'] * CITYSCAPES_TRAIN + ['val'] * CITYSCAPES_VAL
    for sequence, split in enumerate(splits):
        digits = train if split == 'train' else held_out
        scene = draw_scene(digits, CITYSCAPES, rng)
        # Cityscapes annotates frame 19 of a sequence.
        name = f'digits_{sequence:06d}_000019'
        for kind, pixels, suffix in (
            ('leftImg8bit', scene.image, 'leftImg8bit'),
            ('gtFine', scene.mask, 'gtFine_labelTrainIds'),
        ):
            path = out / kind / split / 'digits' / f'{name}_{suffix}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return {'training': CITYSCAPES_TRAIN, 'validation': CITYSCAPES_VAL}


def add_fields(parent: ElementTree.Element, fields: dict) -> None:
    """Append an element for each field, with elements of its own where it is a dict."""
    for tag, content in fields.items():
        child = ElementTree.SubElement(parent, tag)
        if isinstance(content, dict):
            add_fields(child, content)
        else:
            child.text = str(content)


def annotation(year: str, name: str, scene: Scene) -> ElementTree.Element:
    """Describe a scene as VOC does: pixels count from 1, and boxes hold their last."""
    height, width, depth = scene.image.shape
    root = ElementTree.Element('annotation')
    source = {'database': 'scikit-learn digits', 'annotation': year, 'image': 'drawn'}
    size = {'width': width, 'height': height, 'depth': depth}
    add_fields(root, {'folder': year, 'filename': f'{name}.jpg', 'source': source})
    add_fields(root, {'size': size, 'segmented': 0})
    for digit, (left, top, right, bottom) in scene.objects:
        flags = {'pose': 'Unspecified', 'truncated': 0, 'occluded': 0, 'difficult': 0}
        box = {'xmin': left + 1, 'ymin': top + 1, 'xmax': right, 'ymax': bottom}
        add_fields(root, {'object': {'name': VOC_NAMES[digit], **flags, 'bndbox': box}})
    return root


def write_voc_sets(folder: Path, names: list[str]) -> None:
    """Write which images are to train, validate and test on."""
    half = VOC_TRAINVAL // 2
    sets = {
        'train': names[:half],
        'val': names[half:VOC_TRAINVAL],
        'trainval': names[:VOC_TRAINVAL],
        'test': names[VOC_TRAINVAL:],
    }
    for name, images in sets.items():
        # As in the real VOC2012, there is no list of a test set that is not there.
        if images:
            (folder / f'{name}.txt').write_text('\n'.join(images) + '\n')


def write_voc(out: Path, train: Digits, held_out: Digits) -> dict[str, int]:
    """Write scenes, boxes and sets of two years; returns images of trainval and test."""
    rng = np.random.default_rng(SEED)
    for year, prefix, tests in (('VOC2007', '', VOC_TEST), ('VOC2012', '2012_', 0)):
        folder = out / year
        for part in ('JPEGImages', 'Annotations', 'ImageSets/Main'):
            (folder / part).mkdir(parents=True, exist_ok=True)
        names = [f'{prefix}{i + 1:06d}' for i in range(VOC_TRAINVAL + tests)]
        write_voc_sets(folder / 'ImageSets' / 'Main', names)
        for i, name in enumerate(names):
            digits = train if i < VOC_TRAINVAL else held_out
            scene = draw_scene(digits, VOC, rng)
            image = folder / 'JPEGImages' / f'{name}.jpg'
            Image.fromarray(scene.image).save(image, quality=95)
            root = annotation(year, name, scene)
            ElementTree.indent(root, '\t')
            path = folder / 'Annotations' / f'{name}.xml'
            ElementTree.ElementTree(root).write(path)
    return {'training': 2 * VOC_TRAINVAL, 'test': VOC_TEST}
