"""Properties of everything that reads tables: what is written comes back, and no bytes give anything but a table."""

import gzip
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from probam.data.patterns import read_patterns
from probam.data.source import row_blocks
from probam.data.table import Table, as_table
from probam.data.writing import TABLE_SUFFIXES, write_table
from probam.errors import InputError

FEW = settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
LETTERS = st.characters(codec="utf-8", exclude_characters="\0")
TITLES = st.text(LETTERS, min_size=1, max_size=12).map(str.strip).filter(lambda title: not _is_no_title(title))


def _is_no_title(title: str) -> bool:
    """Whether this is what a file without names of columns has in their place."""
    return (
        not title or title == "Unnamed: 0" or re.fullmatch(r"[\d.,+\-eE_]*|nan|inf|infinity", title, re.I) is not None
    )


@st.composite
def tables(draw: st.DrawFn) -> tuple[np.ndarray, tuple[str, ...]]:
    """The numbers of a few rows, and names of their columns."""
    columns = draw(st.lists(TITLES, min_size=1, max_size=4, unique=True))
    shape = (draw(st.integers(1, 6)), len(columns))
    return draw(arrays(np.float64, shape, elements=FLOATS)), tuple(columns)


@pytest.mark.parametrize("suffix", TABLE_SUFFIXES)
@FEW
@given(numbers=tables())
def test_a_table_that_is_written_is_read_again(suffix: str, numbers: tuple[np.ndarray, tuple[str, ...]]) -> None:
    table = Table(*numbers)
    with TemporaryDirectory() as folder:
        path = f"{folder}/t{suffix}"
        write_table(table, path)
        again = as_table(path)
        blocks = list(row_blocks(path, rows=2)[0])
    assert again.columns == table.columns
    np.testing.assert_array_equal(again.values, table.values)
    np.testing.assert_array_equal(np.signbit(again.values), np.signbit(table.values))
    assert blocks[0].columns == table.columns
    np.testing.assert_array_equal(np.concatenate([block.values for block in blocks]), table.values)


def read_everyhow(path: str) -> int:
    """How many of the three ways to read a file gave a table; the others refused it in one line."""
    taken, said = 0, []
    for read in (as_table, _in_blocks, read_patterns):
        try:
            table: Any = read(path)
        except InputError as error:
            said.append(str(error))
        else:
            values = np.asarray(table.values)
            assert values.ndim == 2
            assert np.isfinite(values).all()
            assert len(table.columns) == values.shape[1]
            taken += 1
    assert not [each for each in said if "\n" in each or Path(path).name not in each]
    return taken


def _in_blocks(path: str) -> Table:
    blocks = list(row_blocks(path, rows=3)[0])
    return Table(np.concatenate([block.values.astype(np.float64) for block in blocks]), blocks[0].columns)


@pytest.mark.parametrize("suffix", [*TABLE_SUFFIXES, ".txt", ".npy", ".idx"])
@FEW
@given(content=st.binary(max_size=200))
def test_any_bytes_are_a_table_or_refused(suffix: str, content: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"t{suffix}"
        path.write_bytes(content)
        read_everyhow(str(path))
        if suffix.endswith(".gz"):
            path.write_bytes(gzip.compress(content))
            read_everyhow(str(path))


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".txt"])
@FEW
@given(content=st.text(st.sampled_from('ab,;\t "\n\r.-+e0123456789?nNaAiIfF\u2009é'), max_size=60))
def test_any_text_is_a_table_or_refused(suffix: str, content: str) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"t{suffix}"
        path.write_bytes(content.encode())
        read_everyhow(str(path))


@pytest.mark.parametrize("suffix", [*TABLE_SUFFIXES, ".npy", ".idx"])
def test_a_changed_file_is_a_table_or_refused(suffix: str) -> None:
    """Bytes of a good file are replaced, left out or doubled; the seed is fixed."""
    rng = np.random.default_rng(3)
    taken = refused = 0
    with TemporaryDirectory() as folder:
        path = f"{folder}/t{suffix}"
        whole = _good_file(path, rng.normal(size=(20, 3)))
        assert read_everyhow(path) >= 1
        for _ in range(60):
            Path(path).write_bytes(_changed(whole, rng))
            ways = read_everyhow(path)
            taken += ways > 0
            refused += ways == 0
    assert refused > 5
    assert taken + refused == 60


def _good_file(path: str, x: np.ndarray) -> bytes:
    if path.endswith(".npy"):
        np.save(path, x)
    elif path.endswith(".idx"):
        Path(path).write_bytes(b"\0\0\x0e\x02" + np.array(x.shape, ">u4").tobytes() + x.astype(">f8").tobytes())
    else:
        write_table(as_table(x), path)
    return Path(path).read_bytes()


def _changed(whole: bytes, rng: np.random.Generator) -> bytes:
    content = bytearray(whole)
    first = min(len(content), 300)
    for _ in range(rng.integers(1, 5)):
        at = int(rng.integers(first if rng.random() < 0.5 else len(content)))
        how = rng.integers(4)
        if how == 0:
            content[at] = int(rng.integers(256))
        elif how == 1:
            del content[at : at + int(rng.integers(1, 9))]
        elif how == 2:
            content[at:at] = content[at : at + int(rng.integers(1, 9))]
        else:
            content = content[: max(at, 1)]
        first = min(len(content), first)
    return bytes(content)
