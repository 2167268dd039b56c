"""Rows that stay in their file: the same numbers as all at once, at each pass, in bounded memory."""

import gzip
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from numpy.typing import NDArray
from scipy import stats

from probam.data.source import read_ahead, row_source
from probam.data.table import Table, as_table
from probam.errors import InputError

RNG = np.random.default_rng(3)
X = RNG.standard_normal((23, 3)).astype(np.float32)
NAMES = ["p", "q", "r"]


def _csv(path: Path) -> None:
    pd.DataFrame(X.astype(float), columns=NAMES).to_csv(path, index=False)


def _tsv(path: Path) -> None:
    pd.DataFrame(X.astype(float), columns=NAMES).to_csv(path, index=True, sep="\t")  # with numbers of the rows


def _txt(path: Path) -> None:
    with gzip.open(path, "wt") as file:
        np.savetxt(file, X.astype(float), fmt="%.17g")


def _parquet(path: Path) -> None:
    pd.DataFrame(X, columns=NAMES).to_parquet(path, row_group_size=7)


def _lists(path: Path) -> None:
    pd.DataFrame({"e": list(X)}).to_parquet(path, row_group_size=7)


def _npy(path: Path) -> None:
    np.save(path, X)


def _fortran(path: Path) -> None:
    np.save(path, np.asfortranarray(X))


def _npz(path: Path) -> None:
    np.savez(path, X=X, features=np.array(NAMES))


def _dataset() -> xr.Dataset:
    return xr.Dataset({"x": (("datum", "feature"), X), "label": ("datum", np.arange(23))}, {"feature": NAMES})


def _netcdf(path: Path) -> None:
    _dataset().to_netcdf(path, engine="h5netcdf")


def _classic(path: Path) -> None:
    _dataset().transpose().to_netcdf(path, engine="scipy")


def _variables(path: Path) -> None:
    xr.Dataset({name: ("time", column) for name, column in zip(NAMES, X.T, strict=True)}).to_netcdf(path)


def _zarr(path: Path) -> None:
    pytest.importorskip("zarr")
    _dataset().to_zarr(path, encoding={"x": {"chunks": (5, 3)}}, zarr_format=2)


KINDS: list[tuple[str, Callable[[Path], None]]] = [
    ("t.csv", _csv), ("t.tsv", _tsv), ("t.txt.gz", _txt), ("t.parquet", _parquet), ("l.parquet", _lists),
    ("t.npy", _npy), ("f.npy", _fortran), ("t.npz", _npz), ("t.nc", _netcdf), ("c.nc", _classic), ("v.nc", _variables),
    ("t.zarr", _zarr),
]  # fmt: skip


@pytest.mark.parametrize(("name", "write"), KINDS)
@pytest.mark.parametrize("rows", [1, 5, 23, 1000])
def test_blocks_are_the_whole_at_each_pass(tmp_path: Path, name: str, write: Callable[[Path], None], rows: int) -> None:
    write(tmp_path / name)
    whole, source = as_table(tmp_path / name), row_source(tmp_path / name)
    np.testing.assert_array_equal(whole.values, X)
    assert (source.num_data, source.columns, source.named) == (23, whole.columns, whole.named)
    assert source.dtype == whole.values.dtype
    for _ in range(2):
        _same(list(source.blocks(rows)), whole, rows)


def _same(blocks: list[Table], whole: Table, rows: int) -> None:
    np.testing.assert_array_equal(np.concatenate([block.values for block in blocks]), whole.values)
    assert max(block.num_data for block in blocks) <= rows
    at = 0
    for block in blocks:
        assert block.columns == whole.columns
        assert block.values.dtype == whole.values.dtype
        assert block.row_words(0) == whole.row_words(at)
        at += block.num_data


def test_a_table_in_memory_is_cut_into_views() -> None:
    table = as_table(X, columns=None)
    source = row_source(table)
    blocks = list(source.blocks(10))
    assert all(np.shares_memory(block.values, table.values) for block in blocks)
    _same(blocks, table, 10)
    assert row_source(source) is source
    with pytest.raises(InputError, match="a source already"):
        row_source(source, columns=["x0"])


def test_columns_are_chosen_as_of_a_table(tmp_path: Path) -> None:
    _csv(tmp_path / "t.csv")
    for chosen in ({"columns": ["r", "p"]}, {"drop": ["q"]}, {"features": ["q"]}):
        source = row_source(tmp_path / "t.csv", **chosen)  # type: ignore[arg-type]
        whole = as_table(tmp_path / "t.csv", **chosen)  # type: ignore[arg-type]
        _same(list(source.blocks(9)), whole, 9)
    _netcdf(tmp_path / "t.nc")
    with pytest.raises(InputError, match="expected a 2-D array"):
        row_source(tmp_path / "t.nc", variable="label")
    np.testing.assert_array_equal(next(row_source(tmp_path / "t.nc", variable="x").blocks(30)).values, X)


# --- samples --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [5, 30])
def test_samples_are_uniform_without_replacement_and_reproducible(size: int) -> None:
    num_data, runs = 40, 4000
    source = row_source(np.arange(num_data, dtype=float)[:, None])
    often = np.zeros(num_data)
    pairs = 0
    for seed in range(runs):
        table, rows = source.sample(size, seed)
        assert len(np.unique(rows)) == size
        assert (np.diff(rows) > 0).all()
        np.testing.assert_array_equal(table.values[:, 0], rows)
        often[rows] += 1
        pairs += {3, 17} <= set(rows.tolist())
    share = size / num_data
    spread = runs * share * (1 - share) * num_data / (num_data - 1)  # counts sum to a constant
    chi_square = ((often - runs * share) ** 2).sum() / spread
    assert stats.chi2(num_data - 1).cdf(chi_square) < 0.9999  # fails once in 10,000 seeds
    together = size * (size - 1) / (num_data * (num_data - 1))
    assert abs(pairs - runs * together) < 4 * np.sqrt(runs * together * (1 - together))
    np.testing.assert_array_equal(source.sample(size, 7)[1], source.sample(size, 7)[1])


def test_a_sample_of_a_file_has_the_rows_of_its_numbers(tmp_path: Path) -> None:
    x = RNG.standard_normal((150_000, 2))
    np.save(tmp_path / "t.npy", x)
    source = row_source(tmp_path / "t.npy")
    table, rows = source.sample(2000, seed=1)
    np.testing.assert_array_equal(table.values, x[rows])
    everything, numbers = source.sample(200_000, seed=1)
    np.testing.assert_array_equal(everything.values, x)
    np.testing.assert_array_equal(numbers, np.arange(150_000))
    with pytest.raises(InputError, match="at least 1 row"):
        source.sample(0, seed=1)


# --- faults ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ({1500: "1,x"}, r"column 'b' holds text in row 1500 \(line 1501\): 'x'"),
        ({1500: "1,"}, r"column 'b' has a missing value \(nan\) in row 1500 \(line 1501\)"),
        ({1500: "inf,2"}, r"column 'a' has an infinite value \(inf\) in row 1500 \(line 1501\)"),
        ({1500: "1,2,3"}, r"row 1500 \(line 1501\) has 3 fields where the header has 2"),
        ({9: "", 1500: '"1\n",2', 1600: "?,2"}, r"column 'a' has a missing value \(nan\) in row 1599 \(line 1602\)"),
    ],
)
def test_a_fault_in_the_middle_of_a_text_has_its_row_and_its_line(
    tmp_path: Path, lines: dict[int, str], words: str
) -> None:
    path = tmp_path / "t.csv"
    path.write_text("\n".join(["a,b", *(lines.get(i, "1,2") for i in range(1, 2001))]))
    source = row_source(path)
    with pytest.raises(InputError, match=words):
        list(source.blocks(100))
    with pytest.raises(InputError, match=words.split("in row")[0]):
        as_table(path)


@pytest.mark.parametrize("suffix", [".npy", ".parquet", ".nc"])
def test_a_fault_in_the_middle_of_numbers_has_its_row(tmp_path: Path, suffix: str) -> None:
    x = np.zeros((3000, 2))
    x[2111, 1] = np.nan
    path = tmp_path / f"t{suffix}"
    if suffix == ".npy":
        np.save(path, x)
    elif suffix == ".parquet":
        pd.DataFrame(x, columns=["x0", "x1"]).to_parquet(path)
    else:
        xr.Dataset({"x": (("datum", "feature"), x)}, {"feature": ["x0", "x1"]}).to_netcdf(path)
    source = row_source(path)
    with pytest.raises(InputError, match=r"'x1' has a missing value \(nan\) in row 2111 \(counting from 0\)"):
        list(source.blocks(500))
    assert sum(block.has_gaps for block in row_source(path, missing=True).blocks(500)) == 1


def test_a_file_that_changed_between_passes_is_refused(tmp_path: Path) -> None:
    for name, write in (("t.npy", _npy), ("t.csv", _csv), ("t.zarr", _zarr)):
        path = tmp_path / name
        write(path)
        source = row_source(path)
        assert sum(block.num_data for block in source.blocks(10)) == 23
        inside = next(path.rglob("0.0")) if path.is_dir() else path
        os.utime(inside, ns=(0, 0))
        with pytest.raises(InputError, match="the file has changed since it was first read"):
            list(source.blocks(10))
    source = row_source(_written(tmp_path / "u.npy", np.zeros((5000, 2))))
    blocks = source.blocks(1000)
    next(blocks)
    _written(tmp_path / "u.npy", np.zeros((500, 2)))
    with pytest.raises(InputError, match="the file has changed since it was first read"):
        list(blocks)


def _written(path: Path, x: NDArray[np.float64]) -> Path:
    np.save(path, x)
    return path


def test_columns_that_end_inside_a_file_are_named(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("\n".join([",a", *(f"{i if i < 1500 else 7},1" for i in range(2000))]))
    with pytest.raises(InputError, match=r"from row 1501 \(line 1502\) on it has the columns 'column 1', 'a', and bef"):
        list(row_source(path).blocks(500))


def test_a_missing_package_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t.zarr").mkdir()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"t.zarr: Zarr stores .* install it \(pip install 'probam\[zarr\]'\)"):
        row_source(tmp_path / "t.zarr")
    (tmp_path / "u.zarr").write_text("x")
    with pytest.raises(InputError, match=r"u.zarr: it is no folder"):
        row_source(tmp_path / "u.zarr")


def test_a_damaged_store_is_refused(tmp_path: Path) -> None:
    _zarr(tmp_path / "t.zarr")
    for path in (tmp_path / "t.zarr").rglob(".zarray"):
        path.write_text("{")
    for path in (tmp_path / "t.zarr").rglob(".zmetadata"):
        path.unlink()
    with pytest.raises(InputError, match=r"t.zarr: it cannot be read as Zarr"):
        row_source(tmp_path / "t.zarr")


# --- reading ahead --------------------------------------------------------------------------------------------


def test_reading_ahead_gives_the_same_blocks_while_the_caller_works() -> None:
    def slow(log: list[str]) -> Iterator[int]:
        for i in range(5):
            time.sleep(0.05)
            log.append(f"read {i}")
            yield i

    log: list[str] = []
    for i in read_ahead(slow(log)):
        time.sleep(0.15)
        log.append(f"used {i}")
    assert [line for line in log if "used" in line] == [f"used {i}" for i in range(5)]
    assert all(log.index(f"read {i + 1}") < log.index(f"used {i}") for i in range(4))


def test_reading_ahead_raises_what_reading_raises_and_ends_early() -> None:
    ended: list[bool] = []

    def failing() -> Iterator[int]:
        try:
            yield 1
            yield 2
            raise InputError("row 3 is bad")
        finally:
            ended.append(True)

    ahead = read_ahead(failing())
    assert [next(ahead), next(ahead)] == [1, 2]
    with pytest.raises(InputError, match="row 3 is bad"):
        next(ahead)
    early = read_ahead(failing())
    assert next(early) == 1
    early.close()  # type: ignore[attr-defined]
    del early
    assert ended == [True, True]


# --- memory ---------------------------------------------------------------------------------------------------

_PASS = """
import sys
import numpy as np
from probam.experiments.own_process import peak_mib
from probam.data.source import read_ahead, row_source
source = row_source(sys.argv[1])
next(source.blocks(20_000))
before = peak_mib()
total = sum(float(block.values.sum(dtype=np.float64)) for block in read_ahead(source.blocks(20_000)))
source.sample(20_000, seed=1)
print(total, peak_mib() - before)
"""


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_pass_over_400_mb_and_a_sample_take_less_than_60(tmp_path: Path, order: str) -> None:
    path, num_rows, width = tmp_path / "t.npy", 6_250_000, 16
    file = np.lib.format.open_memmap(path, "w+", np.float32, (num_rows, width), fortran_order=order == "F")
    total = 0.0
    for first in range(0, num_rows, 250_000):
        block = np.random.default_rng(first).standard_normal((250_000, width), np.float32)
        file[first : first + 250_000] = block
        total += float(block.sum(dtype=np.float64))
    file.flush()
    del file
    assert path.stat().st_size > 400e6
    words = [sys.executable, "-c", _PASS, str(path)]
    answer = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    seen, mib = map(float, answer.split())
    np.testing.assert_allclose(seen, total, rtol=1e-6, atol=1e-2)
    assert mib < 60
