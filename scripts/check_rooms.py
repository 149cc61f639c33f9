"""Delete each method's room in a scratch copy, and run the tests that are left.

    python scripts/check_rooms.py [--rooms cnmm mod] [options of pytest]

What belongs to a room goes with it: its folder and its line in mmdyn/methods, its tests,
the configs that name its classes, and the tools and scripts that import it.
"""

import argparse
import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
TOGETHER = dict(multi_exit=['jei'])  # rooms that import another, and go with it


def rooms() -> list[str]:
    """The rooms of mmdyn/methods/__init__.py, in their order."""
    tree = ast.parse((ROOT / 'mmdyn' / 'methods' / '__init__.py').read_text())
    values = {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
    }
    return list(ast.literal_eval(values['ROOMS']))


def copy_tracked(target: Path) -> None:
    """Copy the files that git knows, as they are in the working tree.

    Without a repository, as in a copy that this has made, all files are copied.
    """
    if not (ROOT / '.git').exists():
        ignored = shutil.ignore_patterns('__pycache__')
        shutil.copytree(ROOT, target, ignore=ignored, dirs_exist_ok=True)
        return
    command = ['git', 'ls-files', '-z']
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    for name in listed.decode().split('\0'):
        if name and (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)


def delete_room(copy: Path, room: str) -> None:
    """Delete a room and what is its own."""
    package = copy / 'mmdyn' / 'methods'
    offers = (package / room / '__init__.py').read_text()
    classes = re.findall(r"'([A-Z]\w+)'", offers)
    shutil.rmtree(package / room)
    init = package / '__init__.py'
    init.write_text(init.read_text().replace(f"    '{room}',\n", ''))
    shutil.rmtree(copy / 'tests' / 'test_methods' / f'test_{room}')
    for test in (copy / 'tests' / 'test_combinations').glob(f'*{room}*.py'):
        test.unlink()
    (copy / 'docs' / f'{room}.md').unlink(missing_ok=True)
    delete_users(copy, room)
    delete_configs(copy, room, classes)
    unlink_pages(copy)


def delete_users(copy: Path, room: str) -> None:
    """Delete tools and scripts that import a room, and the tests that run them."""
    imports = re.compile(rf'mmdyn\.methods\.{room}\b')
    files = [*(copy / 'tools').rglob('*.py'), *(copy / 'scripts').rglob('*.py')]
    gone = [
        file
        for file in files
        if file.name != Path(__file__).name and imports.search(file.read_text())
    ]
    names = set()
    for file in gone:
        inside = file.parent.name if file.parent.parent.name == 'scripts' else None
        names.add(inside or file.stem)
        shutil.rmtree(file.parent) if inside else file.unlink(missing_ok=True)
    for folder in ('test_tools', 'test_scripts'):
        for test in (copy / 'tests' / folder).glob('*.py'):
            text = test.read_text()
            if imports.search(text) or any(
                re.search(rf'\b{name}(\.py|\.sh| import)', text) for name in names
            ):
                test.unlink()


def delete_configs(copy: Path, room: str, classes: list[str]) -> None:
    """Delete the configs that name classes, those built on them, and their entries."""
    configs = copy / 'configs'
    used = re.compile(rf"'mmdyn\.({'|'.join(classes)})'")
    gone: set[Path] = set()
    while True:
        found = {
            file
            for file in configs.rglob('*.py')
            if file.parent.name == room
            or used.search(file.read_text())
            or gone & bases_of(file)
        }
        if not found:
            break
        gone |= found
        for file in found:
            file.unlink()
    shutil.rmtree(configs / room, ignore_errors=True)
    for metafile in configs.glob('*/metafile.yml'):
        content = yaml.safe_load(metafile.read_text())
        kept = [m for m in content['Models'] if (copy / m['Config']).exists()]
        if kept:
            metafile.write_text(yaml.safe_dump({**content, 'Models': kept}))
        else:
            shutil.rmtree(metafile.parent)
    for file in (copy / 'scripts').rglob('*.json'):  # lists of configs to measure
        entries = without_gone_configs(json.loads(file.read_text()), copy)
        file.write_text(json.dumps(entries, indent=2))
    index = copy / 'model-index.yml'
    left = [f for f in yaml.safe_load(index.read_text())['Import'] if (copy / f).exists()]
    index.write_text(yaml.safe_dump(dict(Import=left)))


def without_gone_configs(entries, copy: Path):
    """Lists without the entries whose config is gone, at any depth."""
    if isinstance(entries, dict):
        return {key: without_gone_configs(each, copy) for key, each in entries.items()}
    if isinstance(entries, list):
        kept = [
            e for e in entries if not isinstance(e, dict) or (copy / e['config']).exists()
        ]
        return [without_gone_configs(each, copy) for each in kept]
    return entries


def bases_of(file: Path) -> set[Path]:
    """The files of the project that a config inherits."""
    bases = re.findall(r"'([^':]+\.py)'", file.read_text().partition('_base_ =')[2])
    return {Path(os.path.normpath(file.parent / base)) for base in bases}


def unlink_pages(copy: Path) -> None:
    """Make plain text of links to files that are gone."""
    for page in copy.rglob('*.md'):

        def plain(link: re.Match, page: Path = page) -> str:
            target = link[2].partition('#')[0]
            gone = target and '://' not in target and not (page.parent / target).exists()
            return link[1] if gone else link[0]

        text = page.read_text()
        page.write_text(re.sub(r'\[([^\]]*)\]\(([^)]+)\)', plain, text))


def check(room: str, options: list[str]) -> bool:
    """Run the tests without a room, and print a line; whether they passed."""
    with tempfile.TemporaryDirectory(prefix=f'without_{room}_') as folder:
        copy = Path(folder)
        copy_tracked(copy)
        for each in [*TOGETHER.get(room, []), room]:
            delete_room(copy, each)
        done = subprocess.run(
            [sys.executable, '-m', 'pytest', '-x', '-p', 'no:cacheprovider', *options],
            cwd=copy,
            env={**os.environ, 'PYTHONPATH': str(copy)},
            capture_output=True,
            text=True,
        )
    summary = (done.stdout.strip().splitlines() or ['no output'])[-1].strip('= ')
    print(f'without {room}: {summary}', flush=True)
    if done.returncode:
        print(done.stdout[-6000:] + done.stderr[-2000:], file=sys.stderr)
    return done.returncode == 0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--rooms', nargs='+', choices=rooms(), default=rooms())
    args, options = parser.parse_known_args()
    passed = [check(room, options) for room in args.rooms]
    sys.exit(not all(passed))


if __name__ == '__main__':
    main()
