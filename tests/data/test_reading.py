"""Files become tables, exactly; broken files become one sentence."""

import gzip
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from probam.data.source import row_blocks
from probam.data.table import as_table
from probam.data.writing import TABLE_SUFFIXES, write_table
from probam.errors import InputError

RNG = np.random.default_rng(5)
X = RNG.standard_normal((7, 3)) * np.array([1e-12, 1.0, 1e15])
NAMES = ("height", "a name, with comma", "η")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("suffix", TABLE_SUFFIXES)
def test_a_table_that_is_written_reads_back_to_the_last_bit(here: Path, suffix: str) -> None:
    table = as_table(pd.DataFrame(X, columns=list(NAMES)))
    write_table(table, f"t{suffix}")
    again = as_table(f"t{suffix}")
    np.testing.assert_array_equal(again.values, X)
    assert again.columns == NAMES
    assert again.source == f"t{suffix}"
    assert [p.name for p in here.iterdir()] == [f"t{suffix}"]


@settings(max_examples=100, deadline=None)
@given(arrays(np.float64, (5, 2), elements=st.floats(allow_nan=False, allow_infinity=False)))
def test_every_double_survives_text(x: NDArray[np.float64]) -> None:
    with TemporaryDirectory() as folder:
        write_table(as_table(x), f"{folder}/t.csv")
        read = as_table(f"{folder}/t.csv").values
    np.testing.assert_array_equal(read, x)
    np.testing.assert_array_equal(np.signbit(read), np.signbit(x))


@pytest.mark.parametrize("suffix", [".parquet", ".npz", ".nc"])
def test_single_precision_survives_a_binary_file(here: Path, suffix: str) -> None:
    table = as_table(X.astype(np.float32))
    write_table(table, here / f"t{suffix}")
    assert as_table(here / f"t{suffix}").values.dtype == np.float32


def _text(content: str | bytes, name: str = "t.csv") -> str:
    Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
    return name


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("content", "columns", "values"),
    [
        ("a,b\n1,2\n3,4\n", ("a", "b"), [[1, 2], [3, 4]]),
        ("1,2\n3,4\n", ("x0", "x1"), [[1, 2], [3, 4]]),
        ("-1e3,nan?\n1,2\n", ("-1e3", "nan?"), [[1, 2]]),
        ("a;b\n1;2.5\n3;4\n", ("a", "b"), [[1, 2.5], [3, 4]]),
        ("a\tb\r\n1\t2\r\n\r\n3\t4", ("a", "b"), [[1, 2], [3, 4]]),
        ("\ufeffa,b\n1,2\n", ("a", "b"), [[1, 2]]),
        ('\n"a ""x""", b \n"1", 2\n', ('a "x"', "b"), [[1, 2]]),
        ("a\n1\n2\n", ("a",), [[1], [2]]),
        (",a,b\n0,1,2\n1,3,4\n", ("a", "b"), [[1, 2], [3, 4]]),
        ('"","a"\n"1",3\n"2",5\n', ("a",), [[3], [5]]),
        (",a\n7,1\n9,2\n", ("column 1", "a"), [[7, 1], [9, 2]]),
        ("Unnamed: 0,a,b\n0,1,2\n1,3,4\n", ("a", "b"), [[1, 2], [3, 4]]),
        ("a;b\n1;-2,5\n3;4e1\n", ("a", "b"), [[1, -2.5], [3, 40]]),
        ("1,5;2,5\n3;4\n", ("x0", "x1"), [[1.5, 2.5], [3, 4]]),
        ("a\tb\n0,5\t1.5\n,25\t2\n", ("a", "b"), [[0.5, 1.5], [0.25, 2]]),
        ("a,flag\n1,True\n2,False\n", ("a", "flag"), [[1, 1], [2, 0]]),
        ("a,b\n0.1,123456789012345678\n0.30000000000000004,1e-320\n", ("a", "b"),
         [[0.1, 123456789012345678.0], [0.1 + 0.2, 1e-320]]),
    ],
)  # fmt: skip
def test_delimited_text_is_understood(content: str, columns: tuple[str, ...], values: list[list[float]]) -> None:
    table = as_table(_text(content))
    assert table.columns == columns
    np.testing.assert_array_equal(table.values, np.array(values, float))


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "content",
    ["a,b\n1,2\n3,4\n", "a;b\n1,0;2\n3;4\n", "a\tb\n1\t2\n3\t4\n", "a b\n1 2\n 3  4\n", "1 2\n3 4\n", "1,0;2,0\n3;4"],
)
def test_text_files_have_any_delimiter_whole_and_in_blocks(content: str) -> None:
    path = _text(content, "t.txt")
    np.testing.assert_array_equal(as_table(path).values, [[1, 2], [3, 4]])
    blocks, _ = row_blocks(path, rows=1)
    np.testing.assert_array_equal(np.concatenate([block.values for block in blocks]), [[1, 2], [3, 4]])


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("sign", ["?", "NA", "", "N/A", "null"])
@pytest.mark.parametrize("delimiter", [",", ";"])
def test_signs_of_missing_values(sign: str, delimiter: str) -> None:
    path = _text(f"a,b\n1,{sign}\n3,4\n".replace(",", delimiter))
    np.testing.assert_array_equal(as_table(path, missing=True).values, [[1, np.nan], [3, 4]])
    with pytest.raises(InputError, match=r"'b' has a missing value .* missing=True \(`probam fit --missing`\)"):
        as_table(path)
    with pytest.raises(InputError, match="'b' has a missing value"):
        list(row_blocks(path)[0])


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("title", ["", "Unnamed: 0"])
def test_row_numbers_that_are_left_out_are_named_and_never_learned(title: str) -> None:
    path = _text(f"{title},a\n1,5.5\n2,6.5\n3,8\n")
    assert as_table(path).left_out == (title or "column 1",)
    assert as_table(path).columns == ("a",)
    blocks, _ = row_blocks(path, rows=2)
    assert [block.values.ravel().tolist() for block in blocks] == [[5.5, 6.5], [8]]
    assert as_table(_text("a,b\n1,2\n")).left_out == ()


@pytest.mark.usefixtures("here")
def test_a_column_of_lists_in_parquet_is_as_many_features() -> None:
    rows = np.array([[1, 2, 3], [4, 5, 6.5]], np.float32)
    frame = pd.DataFrame({"id": [7, 8], "text": ["t", "u"], "embedding": list(rows), "ragged": [[1.0], [1.0, 2.0]]})
    frame.to_parquet("t.parquet")
    table = as_table("t.parquet", columns=["embedding"])
    assert table.columns == ("embedding_0", "embedding_1", "embedding_2")
    assert table.values.dtype == np.float32
    np.testing.assert_array_equal(table.values, rows)
    assert as_table("t.parquet", columns=["id", "embedding_1"]).columns == ("id", "embedding_1")
    np.testing.assert_array_equal(as_table("t.parquet", features=table.columns).values, rows)
    np.testing.assert_array_equal(next(row_blocks("t.parquet", columns=["embedding"])[0]).values, rows)
    with pytest.raises(InputError, match="'ragged' holds lists of different lengths, one in row 0"):
        as_table("t.parquet", columns=["ragged"])
    frame["embedding"] = [None, rows[1]]
    with pytest.raises(InputError, match="'embedding_0' has a missing value"):
        as_table(frame, columns=["embedding"])


@pytest.mark.usefixtures("here")
def test_compressed_text_and_tabs_are_understood_by_suffix() -> None:
    Path("t.tsv.gz").write_bytes(gzip.compress(b"a\tb,c\n1\t2\n"))
    assert as_table("t.tsv.gz").columns == ("a", "b,c")


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "t.csv: the file is empty"),
        ("\n  \n", "only blank lines"),
        ("a,b\n", "t.csv: it has a header and no rows"),
        ("a,b\n1,2\n3\n", r"t.csv: row 2 \(line 3\) has 1 field where the header has 2"),
        ("a,b\n1,2\n\n3,4,5\n", r"row 2 \(line 4\) has 3 fields where the header has 2; .* separated by commas"),
        ("1,2\n3,4,\n", "where the first row has 2"),
        ("a,b\n1,2,3\n4,5,6\n", r"row 1 \(line 2\) has 3 fields"),
        ("a,b\n1,2\n3,oops\n", r"column 'b' holds text in row 2 \(line 3\): 'oops'; .* columns of numbers: 'a'"),
        ("a;b\n1;2,5\n2;3.5\n", "decimal commas"),
        ('a,b\n1,"2,5"\n', "decimal commas"),
        ("a,b\n1,2\n3,NA\n5,inf\n", r"'b' has a missing value \(nan\) in row 2 \(line 3\); it is the only one"),
        ("a\n1\nNA\n", r"in row 2 \(line 3\); it is the only one; drop those rows or impute the values first"),
        ("a,b\n1,2\n\n3,NA\n5,\n", r"'b' has a missing value \(nan\) in row 2 \(line 4\); 2 such values in 2 of 3"),
        ("a,b\n1,inf\n", r"column 'b' has an infinite value \(inf\) in row 1 \(line 2\)"),
        ("a,a\n1,2\n", "name 'a' appears more than once"),
        ('a,b\n"1,2\n3,4\n', "cannot be read as delimited text|has 1 field|holds text"),
        (b"a,b\n\xff\xfe,2\n", "not UTF-8"),
        (b"\x00\x01\x02\x03\n", "t.csv"),
    ],
)  # fmt: skip
def test_broken_text_is_refused_where_it_breaks(content: str | bytes, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        as_table(_text(content))
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("here")
def test_a_quoted_line_break_does_not_shift_the_line_numbers() -> None:
    with pytest.raises(InputError, match=r"row 2 \(line 5\)"):
        as_table(_text('"a\nb",c\n1,2\n\n3,?\n'))


@pytest.mark.usefixtures("here")
def test_text_columns_are_left_out_on_request() -> None:
    path = _text("who,a,b\nx,1,2\ny,3,4\n")
    np.testing.assert_array_equal(as_table(path, columns=["b", "a"]).values, [[2, 1], [4, 3]])
    with pytest.raises(InputError, match=r"t.csv has no column 'd'; it has 'who', 'a', 'b'"):
        as_table(path, columns=["d"])


@pytest.mark.usefixtures("here")
def test_an_archive_gives_its_matrix_by_name_or_by_being_the_only_one() -> None:
    np.savez("one.npz", y=np.arange(7), stuff=X)
    np.savez("x.npz", X=X, Z=X[:, :2], features=np.array(NAMES))
    np.savez("two.npz", p=X, q=X[:3])
    np.savez("none.npz", y=np.arange(7), cube=np.ones((2, 2, 2)))
    np.testing.assert_array_equal(as_table("one.npz").values, X)
    np.testing.assert_array_equal(as_table("x.npz").values, X)
    assert as_table("x.npz").columns == NAMES
    np.testing.assert_array_equal(as_table("x.npz:Z").values, X[:, :2])
    np.testing.assert_array_equal(as_table("two.npz", variable="q").values, X[:3])
    for path, words in [
        (
            "two.npz",
            r"more than one 2-D array and none called X; it has p \(7, 3\), q \(3, 3\); choose one with two.npz:KEY",
        ),
        ("none.npz", r"no 2-D array .* cube \(2, 2, 2\)"),
        ("two.npz:r", "has no array 'r'; it has p, q"),
        ("none.npz:y", r"none.npz:y: expected a 2-D array"),
    ]:
        with pytest.raises(InputError, match=words):
            as_table(path)
    with pytest.raises(InputError, match="give only one"):
        as_table("two.npz:p", variable="q")
    with pytest.raises(InputError, match=r"only NPZ and NetCDF files hold named arrays; t.csv is CSV"):
        as_table(_text("a\n1\n"), variable="q")


class _Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("sprung"),))  # type: ignore[return-value]


def test_nothing_is_ever_unpickled(here: Path) -> None:
    trap = np.array([[_Trap()]], dtype=object)
    np.save("o.npy", trap, allow_pickle=True)
    np.savez("o.npz", X=trap)
    np.savez("mixed.npz", meta=trap, data=X)
    for name in ("o.npy", "o.npz", "mixed.npz:meta"):
        with pytest.raises(InputError, match="never unpickled"):
            as_table(name)
    np.testing.assert_array_equal(as_table("mixed.npz").values, X)
    assert not (here / "sprung").exists()


@pytest.mark.usefixtures("here")
def test_arrays_read_from_npy() -> None:
    np.save("t.npy", X.astype(np.float32))
    assert as_table("t.npy").values.dtype == np.float32
    np.save("one.npy", X[0])
    with pytest.raises(InputError, match=r"one.npy: expected a 2-D array .* got shape \(3,\)"):
        as_table("one.npy")


@pytest.mark.usefixtures("here")
def test_an_npy_file_that_promises_more_rows_than_it_has_is_called_truncated() -> None:
    head = str({"descr": "<f8", "fortran_order": False, "shape": (10**13, 3)}).ljust(117).encode() + b"\n"
    Path("t.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + X.tobytes())
    with pytest.raises(InputError, match=r"t.npy: it cannot be read as a NumPy file .* it may be truncated"):
        as_table("t.npy")


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("engine", ["h5netcdf", "scipy"])
def test_netcdf_gives_its_matrix_by_name_or_by_being_the_only_one(engine: str) -> None:
    data = xr.Dataset(
        {"x": (("datum", "feature"), X), "weight": ("datum", np.ones(7))}, coords={"feature": ["p", "q", "r"]}
    )
    data.to_netcdf("t.nc", engine=engine)  # type: ignore[call-overload]
    table = as_table("t.nc")
    np.testing.assert_array_equal(table.values, X)
    assert table.columns == ("p", "q", "r")
    with pytest.raises(InputError, match="expected a 2-D array"):
        as_table("t.nc", variable="weight")
    with pytest.raises(InputError, match=r"variable: t.nc has no 'z'; it has x \(7, 3\), weight \(7,\)"):
        as_table("t.nc", variable="z")


@pytest.mark.usefixtures("here")
def test_a_saved_fit_is_recognised_where_data_are_expected() -> None:
    tree = xr.DataTree.from_dict({"posterior": xr.Dataset({"loc": ("memory", [1.0])})})
    tree.to_netcdf("fit.nc", engine="h5netcdf")
    with pytest.raises(InputError, match="this is a saved fit"):
        as_table("fit.nc")


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("suffix", [".npz", ".npy", ".nc", ".parquet", ".csv.gz"])
def test_a_truncated_file_is_refused(suffix: str) -> None:
    table = as_table(RNG.standard_normal((400, 3)))
    if suffix == ".npy":
        np.save("t.npy", table.values)
    else:
        write_table(table, f"t{suffix}")
    whole = Path(f"t{suffix}").read_bytes()
    for part in (len(whole) // 2, len(whole) - 30, 9):
        Path(f"t{suffix}").write_bytes(whole[:part])
        with pytest.raises(InputError, match=f"t{suffix}: it cannot be read") as caught:
            as_table(f"t{suffix}")
        assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("suffix", [".npz", ".npy", ".parquet", ".csv", ".csv.gz"])
def test_a_damaged_file_is_read_or_refused_and_nothing_else(suffix: str) -> None:
    rng = np.random.default_rng(1)
    table = as_table(rng.standard_normal((40, 3)))
    if suffix == ".npy":
        np.save("t.npy", table.values)
    else:
        write_table(table, f"t{suffix}")
    whole = np.frombuffer(Path(f"t{suffix}").read_bytes(), np.uint8)
    refused, many_lines = 0, False
    for trial in range(100):
        damaged = whole.copy()
        where = rng.integers(len(whole) if trial % 2 else min(len(whole), 200), size=rng.integers(1, 9))
        damaged[where] = rng.integers(256, size=len(where))
        Path(f"t{suffix}").write_bytes(damaged.tobytes())
        try:
            assert as_table(f"t{suffix}").num_features >= 1
        except InputError as error:
            refused += 1
            many_lines |= "\n" in str(error)
    assert not many_lines
    assert refused > 10


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("suffix", [".npz", ".npy", ".nc", ".parquet"])
def test_a_file_that_is_not_what_its_suffix_says_is_refused(suffix: str) -> None:
    with pytest.raises(InputError, match=f"t{suffix}: it "):
        as_table(_text("a,b\n1,2\n", f"t{suffix}"))


def test_places_without_data_are_refused(here: Path) -> None:
    (here / "folder.csv").mkdir()
    for path, words in [
        ("gone.csv", "^gone.csv: no such file; check the path$"),
        ("nowhere/gone.csv", r"no such file \(there is no folder nowhere\)"),
        ("folder.csv", "it is a folder"),
        (_text("1 2", "t.xlsx"), "unknown kind of file; known suffixes are .csv, .csv.gz"),
        ("x" * 5000 + ".csv", "cannot be opened \\(File name too long"),
        ("a\0b.csv", "cannot be opened"),
    ]:
        with pytest.raises(InputError, match=words):
            as_table(path)
