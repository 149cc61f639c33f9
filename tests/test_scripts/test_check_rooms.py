"""What goes with a room; that the other tests then pass, the script itself checks."""

import ast

import check_rooms
import pytest
import yaml


@pytest.mark.parametrize('room', check_rooms.rooms())
def test_what_is_of_a_room_goes_and_nothing_else(tmp_path, room):
    check_rooms.copy_tracked(tmp_path)
    before = set(tmp_path.rglob('*'))
    for each in [*check_rooms.TOGETHER.get(room, []), room]:
        check_rooms.delete_room(tmp_path, each)
    gone = before - set(tmp_path.rglob('*'))
    assert set(tmp_path.rglob('*')) < before
    folders = {file.relative_to(tmp_path).parts[0] for file in gone}
    assert folders <= {'mmdyn', 'configs', 'tests', 'tools', 'scripts', 'docs'}
    for file in gone:  # of the package, rooms alone
        parts = file.relative_to(tmp_path).parts
        assert parts[0] != 'mmdyn' or parts[1] == 'methods' and len(parts) > 2
    for folder in ('mmdyn', 'tools', 'scripts'):
        for file in (tmp_path / folder).rglob('*.py'):
            assert f'mmdyn.methods.{room}.' not in file.read_text(), file
    init = ast.parse((tmp_path / 'mmdyn' / 'methods' / '__init__.py').read_text())
    assert f"'{room}'" not in ast.unparse(init)
    for metafile in tmp_path.glob('configs/*/metafile.yml'):
        entries = yaml.safe_load(metafile.read_text())['Models']
        configs = {tmp_path / entry['Config'] for entry in entries}
        assert configs == set(metafile.parent.glob('*.py'))
