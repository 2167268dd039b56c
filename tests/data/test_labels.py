"""Columns that are labels: which ones look like it, and how they are taken out of a file."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from probam.data.labels import label_like, split_labels
from probam.data.shipped import load_shipped
from probam.data.table import Table, as_table
from probam.errors import InputError

X = np.random.default_rng(0).normal(size=(100, 3))
CLASSES = np.arange(100) % 4


def _table(*columns: np.ndarray, missing: bool = False) -> Table:
    return Table(np.column_stack(columns).astype(float), tuple(f"c{i}" for i in range(len(columns))), missing=missing)


@pytest.mark.parametrize(
    "labels", [CLASSES, -CLASSES, CLASSES % 2, 1000 + CLASSES, np.where(X[:, 0] > 2, np.nan, CLASSES)]
)
def test_few_whole_numbers_among_measurements_look_like_labels(labels: np.ndarray) -> None:
    assert label_like(_table(X[:, 0], labels, X[:, 1], missing=True)) == ("c1",)


@pytest.mark.parametrize(
    "column",
    [np.arange(100), np.arange(100) // 4, 0.5 + CLASSES, X[:, 2], np.zeros(100)],
    ids=["counter", "25 values", "halves", "measurements", "constant"],
)
def test_other_columns_do_not_look_like_labels(column: np.ndarray) -> None:
    assert label_like(_table(X[:, 0], column, X[:, 1])) == ()


def test_a_table_of_whole_numbers_has_no_column_that_stands_out() -> None:
    assert label_like(_table(CLASSES, CLASSES % 2, np.arange(100))) == ()
    assert label_like(_table(X[:, 0], CLASSES)) == ()  # one of each: nothing says which is the exception
    assert [label_like(load_shipped(name)) for name in ("faithful", "iris", "galaxy82")] == [()] * 3


def _written(kind: str, folder: Path) -> Path:
    path = folder / f"t.{kind}"
    frame = pd.DataFrame(X, columns=["a", "b", "c"]).assign(kind=CLASSES)
    if kind == "csv":
        frame.to_csv(path)
    elif kind == "parquet":
        frame.to_parquet(path)
    elif kind == "npy":
        np.save(path, np.column_stack([X, CLASSES]))
    elif kind == "npz":
        np.savez(path, X=X, kind=CLASSES)
    else:
        data = xr.Dataset({"x": (("datum", "feature"), X), "kind": ("datum", CLASSES)})
        data.to_netcdf(path, engine="h5netcdf")
    return path


@pytest.mark.parametrize("kind", ["csv", "parquet", "npy", "npz", "nc"])
def test_labels_and_features_are_taken_apart(kind: str, tmp_path: Path) -> None:
    path = _written(kind, tmp_path)
    rest, labels = split_labels(path, "x3" if kind == "npy" else "kind")
    np.testing.assert_array_equal(labels.astype(int), CLASSES)
    table = as_table(rest, name=str(path))
    np.testing.assert_array_equal(table.values, X)
    assert table.left_out == (("column 1",) if kind == "csv" else ())


def test_labels_may_be_text_and_some_may_be_missing(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,who\n1,ash\n2,\n3,oak\n")
    rest, labels = split_labels(path, "who")
    assert labels.tolist() == ["ash", None, "oak"]
    assert as_table(rest).columns == ("a",)
    with pytest.raises(InputError, match=r"labels: .*t.csv has no column 'whom'; it has .* \(did you mean 'who'"):
        split_labels(path, "whom")
