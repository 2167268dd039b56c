"""Bad files of tables."""

import gzip
import os
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet as parquet
import xarray as xr

from probam.data.table import as_table
from tests.hostile.case import Case, Good, Kind

__all__ = ["FILES"]

PA: Any = pyarrow  # not all of it has types
X = np.random.default_rng(0).normal(size=(12, 2))


def read(name: str, **options: Any) -> Callable[[object], object]:
    """A call that reads the file."""
    return lambda _: as_table(name, **options)


def written(name: str, content: str | bytes) -> Callable[[], object]:
    """Makes a file of this content."""
    return lambda: Path(name).write_bytes(content.encode() if isinstance(content, str) else content)


def text(what: str, content: str | bytes, *says: str, name: str = "x.csv") -> Case:
    """A file of this content, which :func:`as_table` refuses."""
    return Case(what, read(name), (name, *says), written(name, content))


# --- delimited text -------------------------------------------------------------------------------------------

CSV = (
    text("nothing", "", "the file is empty"),
    text("blank lines", "\n \n\t\n", "only blank lines"),
    text("a header alone", "a,b\n", "a header and no rows"),
    text("a header of numbers alone", "a,b\n\n\n", "a header and no rows"),
    text("a row too short", "a,b\n1,2\n3\n", "row 2 (line 3) has 1 field where the header has 2"),
    text("a row too long", "a,b\n1,2,3\n", "has 3 fields where the header has 2"),
    text("a name twice", "a,a\n1,2\n", "'a' appears more than once"),
    text("an open quotation", 'a,b\n1,"2\n3,4\n', "cannot be read as delimited text"),
    text("nothing but a quotation mark", '"', "x.csv"),
    text("zeros", b"\x00" * 64, "x.csv"),
    text("a web page", "<!DOCTYPE html>\n<html><body>404, not found</body></html>\n", "x.csv"),
    text("JSON", '{"a": [1, 2], "b": [3, 4]}\n', "x.csv"),
    text("a very long field", "a,b\n" + "1" * 200_000 + ",2\n", "x.csv"),
    text("a pipe as delimiter", "a|b\n1|2\n3|4\n", "column 'a|b' holds text"),
    text("a comment", "# made by hand\na,b\n1,2\n", "row 1 (line 2) has 2 fields where the header has 1"),
)

NUMBERS_IN_TEXT = (
    text("a word", "a,b\n1,2\n3,oops\n", "column 'b' holds text in row 2 (line 3): 'oops'", "correct it"),
    text("infinity", "a,b\n1,2\ninf,4\n", "column 'a' has an infinite value (inf) in row 2 (line 3)"),
    text("minus infinity", "a,b\n1,-Infinity\n", "an infinite value (-inf)"),
    text("too large a number", "a,b\n1,1e999\n", "an infinite value"),
    text("a gap", "a,b\n1,\n3,4\n", "column 'b' has a missing value", "fit with missing=True"),
    text("a sign of a missing value", "a,b\n1,?\n3,4\n", "'b' has a missing value"),
    text("NaN in words", "a,b\nnan,2\n3,4\n", "'a' has a missing value"),
    text("a column of nothing", "a,b\n,2\n,4\n", "'a' has a missing value", "2 such values in 2 of 2 rows"),
    text("decimal commas in quotation marks", 'a,b\n1,"2,5"\n', "decimal commas"),
    text("two kinds of decimals", "a;b\n1;2,5\n2;3.5\n", "decimal commas"),
    text("dates", "day,b\n2024-01-01,2\n2024-01-02,4\n", "column 'day' holds text"),
    text("a thin space for thousands", "a,b\n1\u2009000,2\n", "column 'a' holds text"),
    text("underscores", "a,b\n1_000,2\n3,4\n", "column 'a' holds text"),
    text("hexadecimal", "a,b\n0x1F,2\n3,4\n", "column 'a' holds text"),
    text("complex numbers", "a,b\n1+2j,2\n3,4\n", "column 'a' holds text"),
)

ENCODED = (
    text("UTF-16", "a,b\n1,2\n".encode("utf-16"), "not UTF-8", "save it as UTF-8"),
    text("Latin-1", "größe,b\n1,2\n".encode("latin-1"), "not UTF-8"),
    text("half a letter at the end", b"a,b\n1,2\n3,\xc3", "not UTF-8"),
    text("a picture", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "x.csv"),
    text("UTF-32", "a,b\n1,2\n".encode("utf-32"), "not UTF-8"),
    text("a program", b"\x7fELF\x02\x01\x01" + bytes(range(128, 256)), "not UTF-8"),
)

OTHER_TEXT = (
    text("TSV with commas", "a,b\n1,2\n", "column 'a,b' is not parted by tabs but by commas", name="x.tsv"),
    text("TSV, ragged", "a\tb\n1\t2\n3\n", "row 2 (line 3) has 1 field", "tabs", name="x.tsv"),
    text("TSV of nothing", "", "the file is empty", name="x.tsv"),
    text("TXT, ragged", "1 2\n3\n", "has 1 field where the first row has 2", "spaces", name="x.txt"),
    text("TXT of prose", "It was a dark night.\nIt rained.\n", "x.txt", name="x.txt"),
    text("TXT, a header alone", "a b\n", "a header and no rows", name="x.txt"),
    text("TXT, semicolons", "a;b\n1;2\n3\n", "semicolons", name="x.txt"),
    text("TXT, not UTF-8", b"a b\n\xff 2\n", "not UTF-8", name="x.txt"),
    text("TSV, a name twice", "a\ta\n1\t2\n", "'a' appears more than once", name="x.tsv"),
    text("TSV, infinite", "a\tb\n1\tinf\n", "an infinite value", name="x.tsv"),
)

_PACKED = gzip.compress(b"a,b\n" + b"1,2\n3,4\n" * 500, mtime=0)


def packed(what: str, content: bytes, *says: str, name: str = "x.csv.gz") -> Case:
    return text(what, content, *says, name=name)


PACKED = (
    packed("plain text", b"a,b\n1,2\n", "cannot be read as delimited text"),
    packed("cut in half", _PACKED[: len(_PACKED) // 2], "cannot be read as delimited text"),
    packed("without its end", _PACKED[:-8], "cannot be read as delimited text"),
    packed("a wrong checksum", _PACKED[:-8] + bytes(8), "cannot be read as delimited text"),
    packed("a head alone", _PACKED[:10], "cannot be read as delimited text"),
    packed("packed nothing", gzip.compress(b""), "only blank lines"),
    packed("bytes changed", _PACKED[:20] + b"\xff\x00\xff" + _PACKED[23:], "cannot be read as delimited text"),
    packed("a ZIP archive", b"PK\x03\x04" + bytes(30), "cannot be read as delimited text"),
    packed("packed twice", gzip.compress(_PACKED), "x.csv.gz"),
    packed("junk after the end", _PACKED + b"junk", "cannot be read as delimited text"),
    packed("ragged inside", gzip.compress(b"a\tb\n1\n"), "has 1 field where the header has 2", name="x.tsv.gz"),
)

# --- Parquet --------------------------------------------------------------------------------------------------


def table(what: str, contents: dict[str, Any], *says: str, **options: Any) -> Case:
    def make() -> None:
        parquet.write_table(PA.table(contents), "x.parquet")

    return Case(what, read("x.parquet", **options), says if "columns" in says[0] else ("x.parquet", *says), make)


def _cut(part: float) -> None:
    pd.DataFrame(X, columns=["a", "b"]).to_parquet("x.parquet")
    content = Path("x.parquet").read_bytes()
    Path("x.parquet").write_bytes(content[: int(part * len(content))])


PARQUET = (
    text("a file of text", "a,b\n1,2\n", "cannot be read as Parquet", name="x.parquet"),
    text("its sign alone", b"PAR1", "cannot be read as Parquet", name="x.parquet"),
    text("its sign twice", b"PAR1" + bytes(4) + b"PAR1", "cannot be read as Parquet", name="x.parquet"),
    Case("cut in half", read("x.parquet"), ("x.parquet", "it may be truncated"), partial(_cut, 0.5)),
    table("no rows", {"a": PA.array([], PA.float64())}, "no rows"),
    table("no columns", {}, "x.parquet"),
    table("text", {"a": ["x", "y"], "b": [1.0, 2.0]}, "column 'a' holds text"),
    table("dates", {"a": PA.array([1, 2], PA.timestamp("ns"))}, "column 'a' holds dates or times"),
    table("a gap", {"a": [1.0, None]}, "column 'a' has a missing value"),
    table("infinity", {"a": [1.0, np.inf]}, "column 'a' has an infinite value"),
    table("lists of different lengths", {"a": [[1.0], [1.0, 2.0]]}, "column 'a' holds lists of different lengths"),
    table("records", {"a": [{"p": 1}, {"p": 2}]}, "column 'a' holds dict"),
    table("bytes", {"a": [b"1", b"2"]}, "column 'a' holds text"),
    table("another column is wanted", {"a": [1.0]}, "columns: x.parquet has no column 'c'", columns=["c"]),
)

# --- NumPy ----------------------------------------------------------------------------------------------------


def npy(head: str, content: bytes = X.tobytes(), version: bytes = b"\x01\x00") -> bytes:
    """An NPY file with any head."""
    line = head.ljust(117).encode("latin-1") + b"\n"
    return b"\x93NUMPY" + version + len(line).to_bytes(2, "little") + line + content


def saved(what: str, array: Any, *says: str) -> Case:
    return Case(what, read("x.npy"), ("x.npy", *says), lambda: np.save("x.npy", array, allow_pickle=True))


_HEAD = "{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}}}"

NPY = (
    text("text", "1,2\n3,4\n", "cannot be read as a NumPy file", name="x.npy"),
    text(
        "more rows than there are",
        npy(_HEAD.format(descr="<f8", shape="(10000000000000, 3)")),
        "truncated",
        name="x.npy",
    ),
    text("a negative shape", npy(_HEAD.format(descr="<f8", shape="(-3, 2)")), "cannot be read", name="x.npy"),
    text("a shape of text", npy(_HEAD.format(descr="<f8", shape="'ab'")), "cannot be read", name="x.npy"),
    text("code in its head", npy("__import__('os').system('true')"), "cannot be read", name="x.npy"),
    text(
        "a version of the future",
        npy(_HEAD.format(descr="<f8", shape="(12, 2)"), version=b"\x09\x00"),
        "cannot be read",
        name="x.npy",
    ),
    text("an unknown type", npy(_HEAD.format(descr="<q99", shape="(12, 2)")), "cannot be read", name="x.npy"),
    text("a head alone", npy(_HEAD.format(descr="<f8", shape="(12, 2)"), b""), "cannot be read", name="x.npy"),
    text("brackets without end", npy("(" * 110), "cannot be read", name="x.npy"),
    saved("Python objects", np.array([[{}, []]], object), "never unpickled"),
    saved("one axis", np.arange(4.0), "expected a 2-D array", "reshape"),
    saved("a single number", np.float64(3.0), "expected a 2-D array"),
    saved("complex numbers", np.ones((3, 2), complex), "complex numbers"),
    saved("dates", np.zeros((3, 2), "M8[s]"), "dates or times"),
    saved("no rows", np.zeros((0, 2)), "it is empty"),
)


def archive(what: str, arrays: dict[str, Any], *says: str, ask: str = "x.npz", **options: Any) -> Case:
    return Case(what, read(ask, **options), says, lambda: np.savez("x.npz", **arrays))


def _zip(name: str, content: bytes) -> None:
    with zipfile.ZipFile("x.npz", "w") as file:
        file.writestr(name, content)


NPZ = (
    text("text", "a,b\n1,2\n", "cannot be read as a NumPy file", name="x.npz"),
    text("the head of an archive", b"PK\x03\x04" + bytes(40), "cannot be read as a NumPy file", name="x.npz"),
    Case("a text in it", read("x.npz"), ("x.npz",), partial(_zip, "X.npy", b"hello")),
    Case("a program in it", read("x.npz"), ("x.npz", "2-D array"), partial(_zip, "X.py", b"print(1)")),
    Case("a path in it", read("x.npz"), ("x.npz",), partial(_zip, "../../X.npy", b"\x93NUMPY")),
    archive("nothing", {}, "x.npz", "no arrays"),
    archive("two matrices", {"p": X, "q": X}, "x.npz", "choose one with x.npz:KEY"),
    archive("no matrix", {"y": np.arange(3)}, "x.npz", "no 2-D array"),
    archive("another name", {"p": X}, "variable: x.npz has no array 'q'", ask="x.npz:q"),
    archive("two names", {"p": X, "q": X}, "variable:", "give only one", ask="x.npz:p", variable="q"),
    archive("Python objects", {"X": np.array([[None]], object)}, "x.npz", "never unpickled"),
    archive("a row of numbers", {"X": np.arange(3.0)}, "x.npz", "expected a 2-D array"),
    archive("infinity", {"X": np.full((3, 2), np.inf)}, "x.npz", "an infinite value"),
    archive("a name twice", {"X": X, "features": np.array(["a", "a"])}, "x.npz", "'a' appears more than once"),
)

# --- NetCDF ---------------------------------------------------------------------------------------------------


def netcdf(what: str, data: xr.Dataset, *says: str, **options: Any) -> Case:
    return Case(what, read("x.nc", **options), says, lambda: data.to_netcdf("x.nc", engine="h5netcdf"))


def _half(part: float) -> None:
    xr.Dataset({"x": (("i", "j"), np.zeros((100, 40)))}).to_netcdf("x.nc", engine="h5netcdf")
    content = Path("x.nc").read_bytes()
    Path("x.nc").write_bytes(content[: int(part * len(content))])


def _plain_hdf5() -> None:
    with h5py.File("x.nc", "w") as file:  # type: ignore[attr-defined]
        file["x"] = np.array([["a", "b"]], "S1")


NETCDF = (
    text("text", "a,b\n1,2\n", "cannot be read as NetCDF", name="x.nc"),
    text("the sign of HDF5 alone", b"\x89HDF\r\n\x1a\n", "cannot be read as NetCDF", name="x.nc"),
    text("the sign of NetCDF 3 alone", b"CDF\x01", "cannot be read as NetCDF", name="x.nc"),
    Case("cut in half", read("x.nc"), ("x.nc", "it may be truncated"), partial(_half, 0.5)),
    Case("without its end", read("x.nc"), ("x.nc", "it may be truncated"), partial(_half, 0.99)),
    Case("text of HDF5", read("x.nc"), ("x.nc",), _plain_hdf5),
    Case("a fit", read("fit.nc"), ("fit.nc", "this is a saved fit")),
    netcdf("nothing", xr.Dataset(), "x.nc"),
    netcdf("no matrix", xr.Dataset({"x": (("i", "j", "k"), np.ones((2, 2, 2)))}), "x.nc", "choose one with `variable`"),
    netcdf("two matrices", xr.Dataset({"p": (("i", "j"), X), "q": (("i", "j"), X)}), "x.nc", "choose one"),
    netcdf("other dimensions", xr.Dataset({"p": ("i", X[:, 0]), "q": ("j", X[:3, 0])}), "x.nc", "different dimensions"),
    netcdf("another variable", xr.Dataset({"p": (("i", "j"), X)}), "variable: x.nc has no 'q'", variable="q"),
    netcdf("a variable of one axis", xr.Dataset({"p": ("i", X[:, 0])}), "x.nc", "expected a 2-D array", variable="p"),
    netcdf("a gap", xr.Dataset({"p": (("i", "j"), np.where(X > 1, np.nan, X))}), "x.nc", "has a missing value"),
    netcdf("infinity", xr.Dataset({"p": ("i", [np.inf, 1.0])}), "x.nc", "an infinite value"),
)

# --- paths ----------------------------------------------------------------------------------------------------


def path(what: str, name: str, *says: str, make: Callable[[], object] | None = None) -> Case:
    return Case(what, read(name), says, make)


PATHS = (
    path("nothing there", "gone.csv", "gone.csv: no such file", "check the path"),
    path("no folder", "none/gone.csv", "none/gone.csv", "there is no folder none"),
    path("a folder", "d.csv", "d.csv: it is a folder", make=lambda: Path("d.csv").mkdir()),
    path("no suffix", "data", "data: unknown kind of file", "known suffixes", make=written("data", "1,2\n")),
    path("another suffix", "x.xlsx", "x.xlsx: unknown kind of file", make=written("x.xlsx", b"PK")),
    path("a pickle", "x.pkl", "x.pkl: unknown kind of file", make=written("x.pkl", b"\x80\x04N.")),
    path("5000 letters", "x" * 5000 + ".csv", "cannot be opened", "name too long"),
    path("a zero in it", "a\0b.csv", "cannot be opened"),
    path("nothing", "", "data: the path is empty"),
    path("a link to nothing", "l.csv", "l.csv: no such file", make=lambda: os.symlink("gone.csv", "l.csv")),
    path("a link to itself", "l.csv", "l.csv: it cannot be opened", make=lambda: os.symlink("l.csv", "l.csv")),
    path("a file as a folder", "x.csv/y.csv", "x.csv/y.csv", "cannot be opened", make=written("x.csv", "1,2\n")),
    path("not UTF-8", os.fsdecode(b"\xff\xfe.csv"), "no such file"),
    path("an address of the web", "https://example.org/x.csv", "https://example.org/x.csv", "no such file"),
    path("nothing to choose from", "x.csv:KEY", "x.csv:KEY"),
)

GOOD_NPZ = Good(read("x.npz:p"), lambda: np.savez("x.npz", p=X, q=X))
GOOD_PARQUET = Good(read("x.parquet"), lambda: pd.DataFrame(X, columns=["a", "b"]).to_parquet("x.parquet"))
GOOD_NETCDF = Good(read("x.nc"), lambda: xr.Dataset({"p": (("i", "j"), X)}).to_netcdf("x.nc", engine="h5netcdf"))

FILES: dict[str, Kind] = {
    "CSV": Kind(CSV, Good(read("x.csv"), written("x.csv", "a,b\n1,2\n3,4\n"))),
    "numbers in text": Kind(NUMBERS_IN_TEXT, Good(read("x.csv"), written("x.csv", "a;b\n-1,5e1;.5\n+3;4\n"))),
    "encodings": Kind(ENCODED, Good(read("x.csv"), written("x.csv", "\ufeffgröße,b\n1,2\n"))),
    "TSV and TXT": Kind(OTHER_TEXT, Good(read("x.txt"), written("x.txt", "a b\n1 2\n 3  4\n"))),
    "compressed text": Kind(PACKED, Good(read("x.csv.gz"), written("x.csv.gz", _PACKED))),
    "Parquet": Kind(PARQUET, GOOD_PARQUET),
    "NPY": Kind(NPY, Good(read("x.npy"), written("x.npy", npy(_HEAD.format(descr="<f8", shape="(12, 2)"))))),
    "NPZ": Kind(NPZ, GOOD_NPZ),
    "NetCDF": Kind(NETCDF, GOOD_NETCDF),
    "paths": Kind(PATHS, Good(read(os.fsdecode(b"\xff\xfe.csv")), written(os.fsdecode(b"\xff\xfe.csv"), "1,2\n"))),
}
