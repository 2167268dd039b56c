"""Bad arrays and objects in memory."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
import scipy.sparse
import xarray as xr

import probam
from probam.data.table import as_table
from tests.hostile.case import Case, Good, Kind, Place

__all__ = ["ARRAYS", "FIT", "fitted"]

X = np.concatenate([np.random.default_rng(0).normal(c, 0.5, (20, 2)) for c in (-2, 2)])
FIT: dict[str, Any] = {
    "engine": "em",
    "covariance": "isotropic",
    "weights": "dirichlet",
    "components": 2,
    "restarts": 1,
}
"""Options of a fit that takes a moment."""


def table(data: Any, **options: Any) -> Callable[[Place], object]:
    return lambda _: as_table(data, **options)


def fitted(data: Any, **options: Any) -> Callable[[Place], object]:
    """A call of ``probam.fit`` with few restarts."""
    return lambda _: probam.fit(data, **(FIT | options))


def made(what: str, data: Any, *says: str, **options: Any) -> Case:
    """Data that :func:`as_table` refuses."""
    return Case(what, table(data, **options), says or ("data: ",))


def unfit(what: str, data: Any, *says: str, **options: Any) -> Case:
    """Data that ``probam.fit`` refuses."""
    return Case(what, fitted(data, **options), says)


class Hostile:
    """An object whose conversion to an array raises."""

    def __array__(self, *_: object, **__: object) -> Any:
        raise RuntimeError("no array of me")

    def __repr__(self) -> str:
        return "a hostile object"


class Endless:
    """An object that is longer than it is."""

    def __len__(self) -> int:
        return 10**12

    def __getitem__(self, key: object) -> float:
        raise IndexError(key)


KINDS_OF_NUMBERS = (
    made("complex numbers", X.astype(complex), "data: ", "complex numbers", "two columns"),
    made("dates", X.astype("M8[s]"), "data: ", "dates or times"),
    made("time spans", X.astype("m8[s]"), "data: ", "dates or times"),
    made("text", np.array([["a", "b"], ["c", "d"]]), "data: ", "holds text"),
    made("numbers as text", np.array([["1", "2"], ["3", "4"]]), "data: ", "holds text"),
    made("bytes", np.array([[b"1", b"2"]]), "data: ", "holds text"),
    made("objects", np.array([[object(), 1.0]], object), "data: "),
    made("None", np.array([[None, 1.0]], object), "data: ", "missing value"),
    made("void", np.zeros((3, 2), "V8"), "data: "),
    made("records of text", np.array([("a", 1.0)], [("p", "U1"), ("q", float)]), "data: ", "'p' holds text"),
    made("records in records", np.zeros(3, [("p", [("q", float)])]), "data: "),
    made("whole numbers without end", np.array([[10**400, 1]], object), "data: "),
    made("functions", np.array([[len, print]], object), "data: "),
    made("a matrix of lists", np.array([[[1], [2, 3]], [[1], [2]]], object), "data: "),
    made("booleans of objects", np.array([[True, "yes"]], object), "data: "),
)

SHAPES = (
    made("a single number", 3.0, "data: ", "expected a 2-D array"),
    made("one axis", X[:, 0], "data: ", "x.reshape(-1, 1)"),
    made("three axes", X[None], "data: ", "flatten each datum"),
    made("an axis of nothing", X[:0], "data: ", "it is empty"),
    made("no columns", X[:, :0], "data: ", "no columns"),
    made("no axes", np.array(2.0), "data: ", "expected a 2-D array"),
    made("an empty list", [], "data: ", "expected a 2-D array"),
    made("rows of different lengths", [[1.0, 2.0], [3.0]], "data: ", "rows of different lengths"),
    made("a list of nothing", [[], []], "data: ", "no columns"),
    made("32 axes", np.zeros((1,) * 32), "data: ", "expected a 2-D array"),
    made("lists that are too deep", [[[[1.0]]]], "data: ", "expected a 2-D array"),
    made("one axis of JAX", jnp.arange(3.0), "data: ", "expected a 2-D array"),
)


def holed(value: float, at: tuple[int, int] = (3, 1)) -> np.ndarray:
    x = X.copy()
    x[at] = value
    return x


VALUES = (
    made("NaN", holed(np.nan), "data: column 'x1' has a missing value (nan) in row 3", "missing=True"),
    made("infinity", holed(np.inf), "data: column 'x1' has an infinite value (inf) in row 3", "drop those rows"),
    made("minus infinity", holed(-np.inf), "data: ", "(-inf)"),
    made("nothing but NaN", np.full((3, 2), np.nan), "data: ", "6 such values in 3 of 3 rows"),
    made(
        "a row of NaN where gaps are allowed",
        np.where(X[0] == X, np.nan, X),
        "data: row 0",
        "leave it out",
        missing=True,
    ),
    made("infinity where gaps are allowed", holed(np.inf), "data: ", "infinite", missing=True),
    made("masked", np.ma.masked_greater(X, 2.0), "data: ", "missing value"),
    made("infinity in single precision", holed(np.inf).astype(np.float32), "data: ", "infinite"),
    made("infinity in half precision", holed(np.inf).astype(np.float16), "data: ", "infinite"),
    made("NaN of JAX", jnp.asarray(holed(np.nan)), "data: ", "missing value"),
    unfit("a gap in a fit", holed(np.nan), "data: ", "missing=True"),
    unfit(
        "a gap that the family cannot have",
        holed(np.nan),
        "'laplace' cannot integrate them out",
        missing=True,
        family="laplace",
        covariance=None,
        engine="gradient_em",
    ),
)

SPREAD = (
    unfit("one row", X[:1], "data: a fit needs at least 2 data; got one row"),
    unfit("a constant column", X * [1.0, 0.0], "column 'x1' is constant", "leave it out"),
    unfit("nothing but one row, again and again", np.ones((20, 2)), "constant"),
    unfit("a constant column in single precision", (X * [1, 0] + 3).astype(np.float32), "column 'x1' is constant"),
    unfit("a column that rounds to a constant", X * [1.0, 1e-16] + [0.0, 1.0], "column 'x1' is constant"),
    unfit("tiny numbers", X * 1e-160, "column 'x0' has numbers of size", "another unit"),
    unfit("huge numbers", X * 1e160, "column 'x0' has numbers of size", "another unit"),
    unfit("the largest numbers", X * 1e300, "column 'x0' has numbers of size", "another unit"),
    unfit("the smallest numbers", X * 1e-310, "column 'x0' has numbers of size", "another unit"),
    unfit("one huge number", holed(1e200), "column 'x1' has numbers of size", "another unit"),
    unfit("huge in single precision", (X * 1e25).astype(np.float32), "column 'x0' has numbers of size", "float32"),
    unfit("two columns that are one", np.repeat(X[:, :1], 2, axis=1) * 0 + 5.0, "constant"),
    unfit(
        "a column of gaps",
        np.where([True, False], np.nan, X),
        "column 'x0' has no values",
        "leave it out",
        missing=True,
    ),
    unfit("more memories than rows", X[:3], "components: 5 memories for 3 data", components=5),
)

SUPPORTS = (
    unfit(
        "no directions", X, "data: 40 of 40 rows are not of unit length", "--normalise", family="vmf", covariance=None
    ),
    unfit(
        "a row of zeros",
        X * (np.arange(40) > 0)[:, None],
        "row 0",
        "has no direction",
        family="vmf",
        covariance=None,
        normalise=True,
    ),
    unfit(
        "directions of one column", np.ones((9, 1)), "directions need at least 2 columns", family="vmf", covariance=None
    ),
    unfit("no bits", X, "data: ", "values are neither", family="bernoulli", covariance=None),
    unfit("no counts", X, "data: ", "values are not counts", family="multinomial", covariance=None),
    unfit("counts of nothing", np.zeros((9, 3)), "all counts are 0", family="multinomial", covariance=None),
    unfit("no shares", np.abs(X), "data: ", "divide each row by its sum", family="dirichlet", covariance=None),
    unfit("shares of zero", np.eye(4), "data: ", "parts are not positive", family="dirichlet", covariance=None),
    unfit(
        "counts of one category",
        np.ones((9, 1)),
        "counts need at least 2 columns",
        family="multinomial",
        covariance=None,
    ),
    unfit("parts of one", np.ones((9, 1)), "compositions need at least 2 columns", family="dirichlet", covariance=None),
    unfit(
        "bits that are standardised",
        (X > 0) * 1.0,
        "standardise: family 'bernoulli'",
        "leave it out",
        family="bernoulli",
        covariance=None,
        standardise=True,
    ),
)

F = pd.DataFrame(X, columns=["a", "b"])

FRAMES = (
    made("a name twice", F.set_axis(["a", "a"], axis=1), "data: the column name 'a' appears more than once"),
    made("no rows", F[:0], "data: it has column names and no rows"),
    made("no columns", F[[]], "data: it has no columns"),
    made("text", F.assign(c="x"), "data: column 'c' holds text", "leave the column out"),
    made("numbers as text", F.assign(c="1.5"), "data: column 'c' holds text"),
    made("dates", F.assign(c=pd.Timestamp("2024-01-01")), "data: column 'c' holds dates or times"),
    made("time spans", F.assign(c=pd.Timedelta(1, "D")), "data: column 'c' holds dates or times"),
    made("categories", F.assign(c=pd.Categorical(["u"] * 40)), "data: column 'c' holds"),
    made(
        "gaps that pandas has", F.assign(c=pd.array([None] + [1] * 39, "Int64")), "data: column 'c' has a missing value"
    ),
    made("complex numbers", F.assign(c=1j), "data: column 'c' holds complex numbers"),
    made("a mixture", F.assign(c=[1.0, "x"] * 20), "data: column 'c' holds text in row 1"),
    made("a series", F["a"], "data: expected a 2-D array"),
    made("periods", F.assign(c=pd.period_range("2024", periods=40, freq="D")), "data: column 'c' holds"),
    made("intervals", F.assign(c=pd.interval_range(0, 40)), "data: column 'c' holds"),
    made(
        "names of several levels, twice", pd.concat([F, F], axis=1, keys=["p", "p"]), "data: ", "appears more than once"
    ),
)

COLUMNS = (
    made("a column that is not there", F, "columns: data has no column 'c'; it has 'a', 'b'", columns=["c"]),
    made("a name like one", F.set_axis(["length", "width"], axis=1), "did you mean 'length'?", columns=["lenght"]),
    made("no names", F, "columns: expected at least one column name", columns=[]),
    made("a name twice", F, "columns: ", "'a' appears more than once", columns=["a", "a"]),
    made("everything is dropped", F, "drop: no column of data is left", drop=["a", "b"]),
    made("what is dropped is not there", F, "drop: data has no column 'c'", drop=["c"]),
    made("a dropped column is wanted", F, "columns: data has no column 'a'", columns=["a"], drop=["a"]),
    made("a number in place of a name", F, "columns: data has no column '0'", columns=[0]),
    made("names of an array", X, "columns: data has no column 'a'; it has 'x0', 'x1'", columns=["a"]),
    unfit("no list", F, "columns: expected a list of names; got 3", columns=3),
    unfit("a dropped column that is no list", F, "drop: expected a list of names; got 3", drop=3),
    made("a variable of an array", X, "variable: only NPZ and NetCDF files", variable="x"),
)

D = xr.Dataset({"p": (("i", "j"), X), "q": ("i", X[:, 0])})

XARRAY = (
    made("one axis", D["q"], "data: expected a 2-D array"),
    made("three axes", D["p"].expand_dims("k"), "data: expected a 2-D array"),
    made("text", xr.DataArray([["a", "b"]], dims=("i", "j")), "data: ", "holds text"),
    made("a gap", D["p"].where(D["p"] > 0), "data: ", "missing value"),
    made("nothing", xr.Dataset(), "data: ", "no variables"),
    made("two matrices", D[["p"]].assign(r=D["p"]), "data: ", "choose one with `variable`"),
    made("another variable", D, "variable: data has no 'r'", variable="r"),
    made("dates", xr.Dataset({"p": ("i", np.zeros(3, "M8[ns]"))}), "data: ", "dates or times"),
    made("other dimensions", xr.Dataset({"p": ("i", [1.0]), "q": ("j", [1.0, 2.0])}), "data: ", "different dimensions"),
    made("a tree", xr.DataTree(D), "data: "),
    made("a name twice", xr.DataArray(X, dims=("i", "j"), coords={"j": ["a", "a"]}), "data: ", "more than once"),
)

OBJECTS = (
    made("None", None, "data: ", "expected a 2-D array"),
    made("a set", {1, 2}, "data: "),
    made("a dictionary", {"a": [1.0, 2.0]}, "data: "),
    made("a generator", (row for row in X), "data: "),
    made("a function", len, "data: "),
    made("a class", np.ndarray, "data: "),
    made("a sparse matrix", scipy.sparse.csr_matrix(X), "data: expected a dense array", ".toarray()"),
    made("a sparse array", scipy.sparse.coo_array(X), "data: expected a dense array", ".toarray()"),
    made("bytes", b"1,2\n3,4\n", "data: "),
    made("an object that raises", Hostile(), "data: "),
    made("an object without end", Endless(), "data: "),
    made("a module", np, "data: "),
    made("an open file", open, "data: "),
    made("a range", range(5), "data: expected a 2-D array"),
    made("a complex number", 1j, "data: expected a 2-D array"),
)

ARRAYS: dict[str, Kind] = {
    "types of numbers": Kind(KINDS_OF_NUMBERS, Good(table(np.array([[True, 2], [3, 4.5]], object)))),
    "shapes": Kind(SHAPES, Good(table([[1, 2], [3, 4]]))),
    "values": Kind(VALUES, Good(table(holed(np.nan), missing=True))),
    "spread": Kind(SPREAD, Good(fitted(X * 1e-100))),
    "supports": Kind(SUPPORTS, Good(fitted(np.where(X > 0, 1.0, 0.0), family="bernoulli", covariance=None))),
    "frames": Kind(FRAMES, Good(table(F.assign(c=pd.array([1] * 40, "Int64"))))),
    "columns": Kind(COLUMNS, Good(table(F.assign(c="x"), columns=["b", "a"]))),
    "xarray": Kind(XARRAY, Good(table(D, variable="p"))),
    "objects": Kind(OBJECTS, Good(table(((1, 2), (3, 4))))),
}
