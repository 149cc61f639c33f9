"""Search of thresholds, and their measurement on images that it has not seen."""

from collections.abc import Sequence

from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmdyn.engine.loops import OperatingPointValLoop
from mmdyn.evaluation.point_result import PointResult
from mmdyn.evaluation.tables import Column, number_column, print_table
from mmdyn.methods.multi_exit.classifier import MultiExitClassifier, require_classifier
from mmdyn.methods.multi_exit.exit_record import record_exits
from mmdyn.methods.multi_exit.threshold_search import ThresholdSearch
from mmdyn.operating_point import dense_operating_point

TOP1 = 'accuracy/top1'


def search_points(
    model: MultiExitClassifier,
    data: DataLoader,
    max_macs: Sequence[float],
    min_accuracies: Sequence[float],
) -> list[PointResult]:
    """Search a point for each cost, in MACs per image, and top-1 accuracy, in percent.

    Returns:
        list[PointResult]: Expected accuracy and cost of each point.

    Raises:
        ValueError: For a model without exits to choose, or one out of reach.
    """
    require_classifier(model, 'thresholds are those of')
    model.check_adaptive()
    search = ThresholdSearch(record_exits(model.eval(), data))
    wanted = {f'max-macs={b / 1e6:g}M': search.within(b) for b in max_macs}
    wanted |= {f'min-accuracy={a:g}': search.reaching(a) for a in min_accuracies}
    found = []
    for name, thresholds in wanted.items():
        accuracy, macs = search.at(thresholds)
        settings = dict(thresholds=list(thresholds))
        found.append(PointResult(name, {TOP1: accuracy}, macs, settings=settings))
    return found


def measure_points(
    runner: Runner, found: Sequence[PointResult], data: DataLoader
) -> list[PointResult]:
    """Run the found points, which the model offers from now on, then the dense one."""
    model = runner.model
    model.offer_points([each.point for each in found])
    # Where the backbone has points too, the names of both are joined.
    dense = dense_operating_point(model).name
    rest = dense.removeprefix(model.dense_operating_point.name)
    names = [*(each.name + rest for each in found), dense]
    evaluator = runner.cfg.get('test_evaluator') or runner.cfg.val_evaluator
    fp16 = (runner.cfg.get('test_cfg') or {}).get('fp16', False)
    loop = OperatingPointValLoop(runner, data, evaluator, fp16, names)
    loop.run()
    return loop.results


def print_points(found: Sequence[PointResult], measured: Sequence[PointResult]) -> None:
    """Print expected and measured accuracy and cost; the dense point comes last."""
    dense = measured[-1]
    metric = TOP1 if TOP1 in dense.metrics else next(iter(dense.metrics))
    expected = [*found, PointResult(dense.name, {}, float('nan'))]
    thresholds = [
        ', '.join(f'{v:.4g}' for v in each.settings.get('thresholds', ()))
        for each in expected
    ]
    macs = [each.macs_per_image for each in measured]
    columns = [
        Column('point', '', [each.name for each in expected]),
        Column('thresholds', '', thresholds, justify='right'),
        number_column('top-1, search', '', [each.score(TOP1) for each in expected], 2),
        number_column(
            'MMACs, search', '', [each.macs_per_image for each in expected], 2, unit=1e6
        ),
        number_column(metric, '', [each.score(metric) for each in measured], 2),
        number_column('MMACs', '', macs, 2, unit=1e6),
        number_column('cost', '', [each / dense.macs_per_image for each in macs], 3),
    ]
    caption = (
        'search: expected on the images of the search. The other columns: measured on '
        'images that the search has not seen'
    )
    print_table(columns, 'Thresholds', caption)
