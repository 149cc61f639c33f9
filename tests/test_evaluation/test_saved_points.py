"""Points beside a checkpoint, of a toy module that a search can add points to."""

import json

from torch import nn

from mmdyn.evaluation.saved_points import (
    load_operating_points,
    points_file,
    save_operating_points,
)
from mmdyn.models.searchable import Searchable
from mmdyn.operating_point import DENSE, OperatingPoint


class Widths(Searchable, nn.Module):
    @property
    def operating_points(self):
        return (*self.found_points, DENSE)

    def check_settings(self, settings):
        pass


def test_round_trip_and_old_names(tmp_path):
    checkpoint = tmp_path / 'epoch_9.pth'
    checkpoint.write_bytes(b'weights')
    model = Widths()
    assert load_operating_points(model, checkpoint) == 0
    # As files of mmdyn 0.1 have it: the dense point is called full.
    points = [OperatingPoint('half', dict(width=0.5)), OperatingPoint('full')]
    file = save_operating_points(checkpoint, points, metric='mIoU')
    assert file == points_file(checkpoint) == tmp_path / 'epoch_9.points.json'
    assert json.loads(file.read_text())['metric'] == 'mIoU'
    assert load_operating_points(model, checkpoint) == 2
    assert model.operating_points == (points[0], DENSE)
