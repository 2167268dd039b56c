"""What becomes a table, what is kept, and what is refused with which words."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from probam.data.table import Table, as_table, check_rows, check_unit, check_varies
from probam.errors import InputError

X = np.array([[1.5, -2.0, 3.0], [0.25, 7.0, 1e6], [4.0, 5.0, -6.0], [2.0, 8.5, 0.125]])
NAMES = ("a", "b", "c")


@pytest.mark.parametrize(
    "data",
    [
        X,
        jnp.asarray(X),
        X.tolist(),
        pd.DataFrame(X),
        xr.DataArray(X),
        Table(X, NAMES),
        np.ma.masked_array(X, mask=False),
        np.asfortranarray(X)[:, :],
        X.astype(object),
    ],
    ids=["numpy", "jax", "lists", "pandas", "xarray", "table", "masked", "fortran", "objects"],
)
def test_every_holder_of_the_same_numbers_gives_the_same_table(data: object) -> None:
    table = as_table(data)
    np.testing.assert_array_equal(table.values, X)
    assert table.values.dtype == np.float64
    assert (table.num_data, table.num_features) == (4, 3)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (np.float32, np.float32),
        (np.float64, np.float64),
        (np.float16, np.float64),
        (np.int32, np.float64),
        (np.uint8, np.float64),
        (bool, np.float64),
        (">f8", np.float64),
    ],
)
def test_single_precision_stays_and_every_other_number_becomes_double(dtype: Any, expected: Any) -> None:
    x = np.array([[0, 1], [1, 1], [1, 0]]).astype(dtype)
    for data in (x, pd.DataFrame(x.astype(x.dtype.newbyteorder("=")))):
        table = as_table(data)
        assert table.values.dtype == expected
        assert table.values.dtype.isnative
        np.testing.assert_array_equal(table.values, [[0, 1], [1, 1], [1, 0]])


def test_bfloat16_from_jax_becomes_double() -> None:
    table = as_table(jnp.array([[0.5, 1.25], [2.0, -3.0]], jnp.bfloat16))
    assert table.values.dtype == np.float64
    np.testing.assert_array_equal(table.values, [[0.5, 1.25], [2.0, -3.0]])


def test_one_double_column_makes_the_table_double() -> None:
    frame = pd.DataFrame({"a": np.ones(3, np.float32), "b": np.arange(3.0)})
    assert as_table(frame).values.dtype == np.float64
    assert as_table(frame, columns=["a"]).values.dtype == np.float32


def test_nullable_boolean_and_decimal_columns_are_numbers() -> None:
    frame = pd.DataFrame(
        {
            "i": pd.array([1, 2, 3], dtype="Int64"),
            "f": pd.array([0.5, 1.5, 2.5], dtype="Float32"),
            "flag": [True, False, True],
            "o": pd.Series([1, 2.5, True], dtype=object),
        }
    )
    np.testing.assert_array_equal(as_table(frame).values, [[1, 0.5, 1, 1], [2, 1.5, 0, 2.5], [3, 2.5, 1, 1]])


def test_column_names_are_kept_from_pandas_xarray_and_record_arrays() -> None:
    assert as_table(pd.DataFrame(X, columns=list(NAMES))).columns == NAMES
    array = xr.DataArray(X, dims=("datum", "feature"), coords={"feature": list(NAMES)})
    assert as_table(array).columns == NAMES
    np.testing.assert_array_equal(as_table(array.T).values, X)  # the axis called feature is the feature axis
    both = xr.Dataset({"a": ("time", X[:, 0]), "c": ("time", X[:, 2])})
    assert as_table(both).columns == ("a", "c")
    np.testing.assert_array_equal(as_table(both).values, X[:, [0, 2]])
    np.testing.assert_array_equal(as_table(xr.Dataset({"x": array, "other": 3.0})).values, X)
    records = np.array([(1.0, 2), (3.0, 4)], dtype=[("p", float), ("q", int)])
    assert as_table(records).columns == ("p", "q")
    assert as_table(X).columns == ("x0", "x1", "x2")
    levels = pd.DataFrame(X[:, :2], columns=pd.MultiIndex.from_tuples([("u", 1), ("u", 2)]))
    assert as_table(levels).columns == ("u_1", "u_2")


def test_columns_are_selected_in_the_order_asked_for() -> None:
    for data in (Table(X, NAMES), pd.DataFrame(X, columns=list(NAMES))):
        table = as_table(data, columns=["c", "a"])
        assert table.columns == ("c", "a")
        np.testing.assert_array_equal(table.values, X[:, [2, 0]])
    assert as_table(X, columns="x1").columns == ("x1",)


def test_learned_features_are_found_by_name_or_by_position_or_refused() -> None:
    frame = pd.DataFrame({"a": X[:, 0], "species": list("pqrs"), "b": X[:, 1]})
    assert as_table(frame, features=["b", "a"]).columns == ("b", "a")
    assert as_table(X, features=["c", "b", "a"]).columns == ("x0", "x1", "x2")
    assert as_table(Table(X, NAMES), features=["c"]).columns == ("c",)
    assert as_table(Table(X, NAMES), features=["x0", "x1", "x2"]).columns == NAMES  # a fit without names
    with pytest.raises(InputError, match=r"\('b', 'd'\); got 3 \('a', 'species', 'b'\); no column is called 'd'"):
        as_table(frame, features=["b", "d"])
    with pytest.raises(InputError, match=r"expected the 2 features .* got 3 .* for each feature, in this order"):
        as_table(X, features=["x0", "x1"])
    with pytest.raises(InputError, match=r"expected the 2 features .* got 3"):
        as_table(as_table(X), features=["x0", "x1"])


def test_text_that_is_not_selected_does_no_harm() -> None:
    frame = pd.DataFrame({"a": X[:, 0], "species": list("pqrs"), "b": X[:, 1]})
    np.testing.assert_array_equal(as_table(frame, columns=["a", "b"]).values, X[:, :2])


def test_a_table_cannot_be_changed_and_leaves_the_callers_array_alone() -> None:
    mine = X.copy()
    table = as_table(mine)
    with pytest.raises(ValueError, match="read-only"):
        table.values[0, 0] = 0.0
    mine[0, 0] = 9.0  # still the caller's
    assert as_table(table) is table


REFUSED: list[tuple[object, dict[str, Any], str]] = [
    (np.array([1.0, 2.0]), {}, r"data: expected a 2-D array .* got shape \(2,\); use x.reshape\(-1, 1\)"),
    (np.ones((2, 3, 4)), {}, r"got shape \(2, 3, 4\); flatten each datum, x.reshape\(2, -1\)"),
    (3.0, {}, "a single float64 object"),
    (np.ones((0, 3)), {}, r"empty, shape \(0, 3\)"),
    (np.ones((3, 0)), {}, r"no columns, shape \(3, 0\)"),
    ([[1.0, 2.0], [3.0]], {}, "rows of equal length"),
    (X + 1j, {}, "complex"),
    (np.array([["2020-01-01"]], "M8[D]"), {}, "dates or times"),
    (np.array([["u", "1"], ["2", "3"]]), {}, r"column 'x0' holds text in row 0 \(counting from 0\): 'u'"),
    (pd.DataFrame({"a": [1.0, 2.0], "b": ["1,5", "2"]}), {}, r"column 'b' holds text in row 0 .*decimal commas"),
    (pd.DataFrame({"a": [1.0], "when": pd.to_datetime(["2020-01-01"])}), {}, "column 'when' holds dates"),
    (pd.DataFrame({"a": [1.0], "z": [1j]}), {}, "column 'z' holds complex"),
    (pd.DataFrame({"a": [[1], [2, 3]]}), {}, r"column 'a' holds lists of different lengths, one in row 0"),
    (pd.DataFrame({"a": [{}, {}]}), {}, r"column 'a' holds dict in row 0"),
    (pd.DataFrame(), {}, "data: it has no columns"),
    (pd.DataFrame({"a": []}), {}, "no rows"),
    (pd.DataFrame([[1, 2]], columns=["a", "a"]), {}, "name 'a' appears more than once"),
    (pd.DataFrame({"a": [1.0, None, 3.0]}), {}, r"column 'a' has a missing value \(nan\) in row 1 .* only one"),
    (pd.DataFrame({"a": pd.array([1, None], dtype="Int64")}), {}, "missing value"),
    (pd.DataFrame({"b": ["x", None]}), {}, "holds text"),
    (np.array([[1, 2], [np.inf, 4], [np.nan, np.nan]]), {}, r"'x0' has an infinite value \(inf\) in row 1 .*the only"),
    (np.ma.masked_invalid([[1.0, np.nan]]), {}, "missing value"),
    (xr.Dataset(), {}, "expected one 2-D variable"),
    (xr.Dataset({"p": ("i", [1.0]), "q": ("j", [2.0])}), {}, "different dimensions"),
    (xr.Dataset({"p": (("i", "j"), X), "q": (("i", "j"), X)}), {}, r"p \(4, 3\), q \(4, 3\); choose one"),
    (xr.DataArray(X[0]), {}, r"got shape \(3,\)"),
    (xr.Dataset({"p": (("i", "j"), X)}), {"variable": "u"}, "variable: data has no 'u'; it has 'p'"),
    (X, {"variable": "u"}, "variable: only NPZ and NetCDF"),
    (X, {"columns": ["x9"]}, "columns: data has no column 'x9'; it has 'x0', 'x1', 'x2'"),
    (pd.DataFrame({"waiting": [1.0]}), {"columns": ["wating"]}, r"did you mean 'waiting'\?"),
    (X, {"columns": []}, "columns: expected at least one"),
    (X, {"columns": ["x0", "x0"]}, "more than once"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "options", "words"), REFUSED)
def test_what_cannot_be_a_table_is_refused_in_one_sentence(data: object, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        as_table(data, **options)
    assert "\n" not in str(caught.value)


def test_the_list_of_existing_columns_is_shortened() -> None:
    with pytest.raises(InputError, match=r"'x11' and 188 more$"):
        as_table(np.ones((2, 200)), columns=["nothing"])


def test_sparse_matrices_are_sent_to_toarray() -> None:
    from scipy.sparse import csr_array

    with pytest.raises(InputError, match=r"toarray\(\)"):
        as_table(csr_array(X))


def test_precision_that_overflows_is_refused() -> None:
    table = as_table([[1e300, 1.0], [2.0, 3.0]])
    with pytest.raises(InputError, match="infinite"):
        table.astype("float32")
    assert as_table(X).astype("float32").values.dtype == np.float32


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_normalised_rows_keep_their_direction_and_have_length_one(dtype: Any, size: float) -> None:
    x = (size * X).astype(dtype)
    unit = as_table(x).normalised()
    assert unit.values.dtype == dtype
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(np.sum(unit.values.astype(float) ** 2, axis=1), 1, rtol=4 * eps)
    cosine = np.sum(unit.values * (X / np.linalg.norm(X, axis=1, keepdims=True)), axis=1)
    np.testing.assert_allclose(cosine, 1, rtol=4 * eps)
    np.testing.assert_allclose(unit.normalised().values, unit.values, rtol=2 * eps)


def test_a_row_without_a_direction_is_named() -> None:
    x = X.copy()
    x[2:] = 0
    with pytest.raises(InputError, match=r"row 2 .* is all zeros and has no direction \(2 such rows\)"):
        as_table(x).normalised()
    x[1, 0] = np.nan
    with pytest.raises(InputError, match=r"row 1 .* has missing entries and has no direction"):
        as_table(x, missing=True).normalised()


def test_a_constant_column_is_named() -> None:
    check_varies(Table(X, NAMES))
    x = X.copy()
    x[:, 1] = 0.1
    with pytest.raises(InputError, match=r"column 'b' is constant \(0.1 in every row\); leave it out"):
        check_varies(Table(x, NAMES))
    x[:, 2] = 1e6 * (1 + 2.0**-52 * np.arange(4) / 4)  # rounding noise
    with pytest.raises(InputError, match="columns 'b', 'c' are constant"):
        check_varies(Table(x, NAMES))
    x[:, 2] = 1e6 + np.arange(4) * 1e-6
    x[:, 1] = np.arange(4) * 1e-300  # tiny, and it varies
    check_varies(Table(x, NAMES))


def test_one_row_is_no_sample() -> None:
    with pytest.raises(InputError, match="at least 2 data; got one row"):
        check_varies(Table(X[:1], NAMES))
    check_rows(Table(X[:1], NAMES), minimum=1)
    with pytest.raises(InputError, match="at least 5 data; got 4 rows"):
        check_rows(Table(X, NAMES), minimum=5)


def test_a_table_that_breaks_its_promise_cannot_be_made() -> None:
    with pytest.raises(InputError, match="expected 3 names, one per feature of here; got 2"):
        Table(X, ("a", "b"), "here")
    with pytest.raises(InputError, match="expected float32 or float64 numbers; got int64"):
        Table(np.ones((2, 3), np.int64), NAMES)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_whose_squares_do_not_fit_are_named(dtype: Any) -> None:
    rows = np.random.default_rng(0).normal(size=(30, 2)).astype(dtype)
    limits = np.finfo(dtype)
    for size, words in ((np.sqrt(limits.max), "larger"), (0.1 * np.sqrt(limits.tiny), "smaller")):
        x = rows * np.array([1, size], dtype) / np.abs(rows).max(axis=0)
        with pytest.raises(InputError, match=rf"column 'b' has numbers of size .*, {words} than those .*another unit"):
            check_unit(Table(x, ("a", "b")))
    for size in (np.sqrt(limits.max / 30), np.sqrt(limits.tiny), 0):
        check_unit(Table(np.array([[size], [size / 2]], dtype), ("a",)))
