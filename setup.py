"""Packaging of mmdyn; the tested, pinned environments are in requirements/."""

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
# What `mim train mmdyn CONFIG` looks for inside an installed OpenMMLab package.
MIM_CONTENT = ('configs', 'tools', 'model-index.yml')


class BuildWithMim(build_py):
    """Put configs and tools into mmdyn/.mim: links when editable, copies otherwise."""

    def run(self):
        super().run()
        editable = getattr(self, 'editable_mode', False)
        parent = ROOT if editable else Path(self.build_lib)
        target = parent / 'mmdyn' / '.mim'
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for name in MIM_CONTENT:
            if editable:
                (target / name).symlink_to(Path('..', '..', name))
            elif (ROOT / name).is_dir():
                ignored = shutil.ignore_patterns('__pycache__')
                shutil.copytree(ROOT / name, target / name, ignore=ignored)
            else:
                shutil.copy(ROOT / name, target / name)


def version() -> str:
    scope = {}
    exec((ROOT / 'mmdyn' / 'version.py').read_text(), scope)
    return scope['__version__']


setup(
    name='mmdyn',
    version=version(),
    description='The cost of an OpenMMLab vision model, chosen at run time',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    packages=find_packages(include=['mmdyn', 'mmdyn.*']),
    python_requires='>=3.10,<3.13',
    # The two OpenMMLab stacks share import names but not distribution names, so neither
    # can be required here.
    install_requires=['torch>=2.1', 'numpy', 'matplotlib', 'rich'],
    extras_require={
        'onedl': [
            'onedl-mmengine>=0.10.12',
            'onedl-mmcv>=2.3.6',
            'onedl-mmpretrain>=1.3.6',
            'onedl-mmsegmentation>=1.4.2',
            'onedl-mmdetection>=3.5.1',
        ],
        'openmmlab': [
            'mmengine>=0.10.7',
            'mmcv>=2.0.0',
            'mmpretrain>=1.2.0',
            'mmsegmentation>=1.2.2',
            'mmdet>=3.3.0',
        ],
        'demo': ['scikit-learn', 'pillow'],
        'dev': [
            'pytest',
            'pytest-randomly',
            'pytest-xdist',
            'ruff',
            'scikit-learn',
            'pillow',
        ],
    },
    cmdclass={'build_py': BuildWithMim},
    classifiers=[
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
    ],
)
