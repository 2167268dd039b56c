"""Columns that are left out by name, whatever holds the data."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from probam.data.source import row_blocks
from probam.data.table import Table, as_table
from probam.errors import InputError

X = np.arange(12.0).reshape(4, 3) ** 2
NAMES = ["x0", "x1", "x2"]


@pytest.mark.parametrize(
    "data",
    [X, pd.DataFrame(X, columns=NAMES), Table(X, tuple(NAMES)), xr.DataArray(X, coords={"dim_1": NAMES})],
    ids=["numpy", "pandas", "table", "xarray"],
)
def test_to_drop_a_column_is_to_keep_the_others(data: object) -> None:
    dropped, kept = as_table(data, drop=["x1"]), as_table(data, columns=["x0", "x2"])
    assert dropped.columns == kept.columns == ("x0", "x2")
    np.testing.assert_array_equal(dropped.values, X[:, [0, 2]])
    assert as_table(data, columns=["x2"], drop=["x1"]).columns == ("x2",)
    with pytest.raises(InputError, match=r"drop: (data|array) has no column 'x4'; it has 'x0', 'x1', 'x2'"):
        as_table(data, drop=["x4"])
    with pytest.raises(InputError, match=r"drop: no column of (data|array) is left; it has 'x0', 'x1', 'x2'"):
        as_table(data, drop=NAMES)


def test_text_can_be_dropped_and_its_refusal_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "t.csv"
    path.write_text(",a,who,b\n0,1,x,2\n1,3,y,4\n2,5,z,1\n")
    with pytest.raises(InputError, match=r"'who' holds text .* leave the column out \(`drop=`, `--drop`\)"):
        as_table(path)
    for drop in (["who"], ["who", "column 1"], "who"):  # the row numbers are left out in any case
        caplog.clear()
        assert as_table(path, drop=drop).columns == ("a", "b")
        assert caplog.messages == [f"{path}: left out 'column 1', which only numbers the rows"]
    caplog.clear()
    (table,) = row_blocks(path, drop=["who"])[0]
    np.testing.assert_array_equal(table.values, [[1, 2], [3, 4], [5, 1]])
    assert len(caplog.messages) == 1


def test_a_column_of_lists_is_dropped_as_one() -> None:
    frame = pd.DataFrame({"a": [1.0, 2.0], "embedding": [[1.0, 2.0], [3.0, 4.0]]})
    assert as_table(frame, drop=["embedding"]).columns == ("a",)


def test_names_of_what_was_learned_are_looked_for_among_the_columns_that_stay() -> None:
    table = as_table(np.column_stack([np.arange(4), X]), features=("x0", "x1", "x2"), drop=["x0"])
    np.testing.assert_array_equal(table.values, X)
