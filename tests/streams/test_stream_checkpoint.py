"""A pass over a source that was cut goes on after the rows that were learned, with the bits of one that was not."""

import io
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from probam.data.rotation import is_sealed
from probam.errors import InputError
from probam.inference.common.progress import Listener, Progress
from probam.streams.stream import Stream, run_stream

ROWS = np.random.default_rng(2).normal(size=(330, 2)) + 6.0 * np.random.default_rng(3).integers(0, 3, (330, 1))
OPTIONS: dict[str, Any] = {"covariance": "isotropic", "warm": 60, "seed": 4}


class CutError(Exception):
    """The end of a process, as a test can have it."""


def cut_after(blocks: int) -> Listener:
    seen: list[Progress] = []

    def listen(step: Progress) -> None:
        seen.append(step)
        if len(seen) >= blocks:
            raise CutError

    return listen


def assert_same_bits(one: Stream, other: Stream) -> None:
    ours, theirs = one._life.arrays(), other._life.arrays()
    assert ours.keys() == theirs.keys()
    for name, values in theirs.items():
        np.testing.assert_array_equal(ours[name], values, err_msg=name)


@pytest.fixture
def source(tmp_path: Path) -> str:
    path = tmp_path / "rows.csv"
    pd.DataFrame(ROWS, columns=["a", "b"]).to_csv(path, index=False)
    return str(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.ckpt"


def run(source: Any, path: Path | None, progress: Listener | None = None, **options: Any) -> Stream:
    return run_stream(source, rows=25, checkpoint=path, every=0, progress=progress, **OPTIONS | options)


@pytest.mark.parametrize("options", [{}, {"particles": 4, "rule": "sample"}], ids=["one partition", "particles"])
def test_a_pass_cut_anywhere_ends_in_the_bits_of_one_that_was_not(
    options: dict[str, Any], source: str, path: Path
) -> None:
    whole, cuts = run(source, None, **options), 0
    assert len(ROWS) / 25 > 12
    for blocks in (1, 1, 3, 2, 4):  # first while the rows wait for a prior, then while it learns
        with pytest.raises(CutError):
            run(source, path, cut_after(blocks), **options)
        cuts += blocks
        assert Stream.load(path).num_data == 25 * cuts
    assert_same_bits(run(source, path, **options), whole)
    reports: list[Progress] = []
    assert_same_bits(run(source, path, reports.append, **options), whole)  # nothing is left to learn
    assert len(reports) == 1


def test_standard_input_is_passed_over_up_to_where_it_was_learned(
    source: str, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole, text = run(source, None), Path(source).read_text(encoding="utf-8")
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    with pytest.raises(CutError):
        run("-", path, cut_after(5))
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    with caplog.at_level(logging.WARNING, "probam"):
        again = run("-", path)
    assert caplog.messages == [f"{path}: the first 125 rows were learned before and are passed over"]
    assert_same_bits(again, whole)


def test_other_rows_are_noticed_before_any_is_learned(source: str, path: Path) -> None:
    with pytest.raises(CutError):
        run(source, path, cut_after(4))
    before = path.read_bytes()
    other = ROWS.copy()
    other[99, 1] = np.nextafter(other[99, 1], 9)
    with pytest.raises(InputError, match=r"the first 100 rows of data are not those that .*run.ckpt has learned; "):
        run(other, path)
    with pytest.raises(InputError, match=r"has learned 100 rows, of which the data lack 10; give the same data again"):
        run(ROWS[:90], path)
    assert path.read_bytes() == before
    other[99], other[100:] = ROWS[99], other[:230]
    learned = run(other, path)  # other rows afterwards are another end of the stream
    assert_same_bits(learned, run(other, None))


def test_a_checkpoint_of_another_stream_is_refused(source: str, path: Path, tmp_path: Path) -> None:
    with pytest.raises(CutError):
        run(source, path, cut_after(4))
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"of another stream: alpha is 1\.0 in the file and 2\.0 in this run"):
        run(source, path, alpha=2.0)
    begun = Stream(**OPTIONS).partial_fit(ROWS[:70])
    with pytest.raises(InputError, match="it began with other memories or known values"):
        run_stream(source, rows=25, checkpoint=path, begun=begun)
    assert path.read_bytes() == before
    begun.save(tmp_path / "stream.nc")
    with pytest.raises(InputError, match="not a complete checkpoint"):
        run(source, tmp_path / "stream.nc")


def test_a_stream_that_goes_on_has_checkpoints_too(source: str, path: Path, tmp_path: Path) -> None:
    Stream(**OPTIONS).partial_fit(ROWS[::-1]).save(tmp_path / "monday.nc")

    def tuesday(checkpoint: Path | None, progress: Listener | None = None) -> Stream:
        begun = Stream.load(tmp_path / "monday.nc")
        return run_stream(source, rows=25, begun=begun, checkpoint=checkpoint, every=0, progress=progress)

    with pytest.raises(CutError):
        tuesday(path, cut_after(3))
    assert Stream.load(path).num_data == 330 + 75
    assert_same_bits(tuesday(path), tuesday(None))


def test_a_damaged_checkpoint_gives_way_to_the_one_before(source: str, path: Path) -> None:
    with pytest.raises(CutError):
        run(source, path, cut_after(6))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    assert not is_sealed(path)
    assert_same_bits(run(source, path), run(source, None))


def test_a_checkpoint_is_a_stream_that_new_data_continue(source: str, path: Path) -> None:
    with pytest.raises(CutError):
        run(source, path, cut_after(6))
    continued = Stream.load(path).partial_fit(ROWS[150:])
    assert_same_bits(continued, run(source, None))
    assert sorted(os.listdir(path.parent)) == ["rows.csv", "run.ckpt", "run.ckpt.previous"]
