"""The table of every engine at its defaults: its data, and how its cells are written."""

import numpy as np
import pytest

from benchmarks.cells import DATA_SETS, ENGINES, Cell, cell_table, measured
from probam.fits.options import ENGINES as ALL

SETS = {data.name: data for data in DATA_SETS}


def test_there_are_seven_shipped_sets_and_three_made_ones_whose_groups_are_known() -> None:
    assert len(SETS) == 10
    for data in DATA_SETS[7:]:
        rows = data.rows()
        assert rows.group is not None
        assert len(rows.group) == len(rows.x)
        np.testing.assert_array_equal(rows.x, data.rows().x)


def test_every_engine_that_samples_or_fits_a_density_has_its_cells() -> None:
    assert set(ENGINES) == set(ALL) - {"clam"}


def test_groups_that_share_a_size_are_correlated_and_have_thin_differences() -> None:
    rows = SETS["four groups that share a size (200 x 5)"].rows()
    assert rows.group is not None
    within = [np.corrcoef(rows.x[rows.group == k].T) for k in range(4)]
    assert min(np.min(each) for each in within) > 0.9


def test_a_cell_that_takes_too_long_is_stopped_and_said_to_be() -> None:
    (cell,) = measured([SETS["faithful"]], ["em"], limit=0.2)
    assert cell.verdict == "stopped after 0 s"
    assert cell.num_memories is None


def test_good_cells_are_counted_among_those_that_could_be_fitted() -> None:
    cells = [
        Cell("a", "em", "good", (), 3.0, 0.912, 4.4),
        Cell("a", "nuts", "caution", ("few effective draws", "one chain"), 2.51, None, 80.0),
        Cell("a", "cavi", "refused", ("covariance: cavi has no factors for it",), seconds=1.0),
    ]
    lines = cell_table(cells).splitlines()
    assert lines[0] == "1 of 2 fits are good."
    assert lines[-3] == "| a | em | good | - | 3.0 | 0.91 | 4 |"
    assert lines[-2] == "| a | nuts | caution | few effective draws, one chain | 2.5 | - | 80 |"
    assert lines[-1] == "| a | cavi | refused | covariance: cavi has no factors for it | - | - | 1 |"


def test_cells_are_made_by_real_fits() -> None:
    cell = Cell.of(SETS["five groups, 8 sd apart (600 x 2)"], "em")
    assert cell.verdict in ("good", "caution", "problem")
    assert cell.num_memories is not None
    assert cell.num_memories >= 5, "a mode under a process has at least the groups"
    assert cell.rand_index == pytest.approx(0.8, abs=0.2)
