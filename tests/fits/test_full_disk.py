"""A disk that is full is told in one sentence, whatever is written: no crash, nothing half-written, nothing lost."""

import resource
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from probam.data.rotation import RotatedFile
from probam.data.table import Table
from probam.data.writing import write_dataset, write_table
from probam.errors import InputError
from probam.fits.fit import fit, load
from probam.fits.fitted import Fit
from probam.streams.stream import Stream

X = np.random.default_rng(3).normal(size=(40, 3)) + np.repeat([[-3.0], [3.0]], 20, axis=0)
ROWS = np.random.default_rng(4).normal(size=(300, 4))


@contextmanager
def no_room(size: int = 100) -> Iterator[None]:
    """No file can grow beyond this size."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(scope="module")
def fitted() -> Fit:
    made = fit(X, components=2, engine="em", covariance="full", restarts=2, seed=1)
    made.parameters()  # programs are compiled, and kept, while there is room
    return made


@pytest.fixture(scope="module")
def stream() -> Stream:
    return Stream(seed=1).partial_fit(X)


def _dataset() -> xr.Dataset:
    return xr.Dataset({"label": ("datum", np.arange(len(ROWS))), "x": (("datum", "feature"), ROWS)})


def _checkpoint(path: Path) -> None:
    file = RotatedFile(path)
    try:
        file.write(lambda temporary: temporary.write_bytes(ROWS.tobytes()))
    finally:
        file.close()


WRITERS: dict[str, Callable[[Path, Fit, Stream], object]] = {
    **{
        f"rows{end}": lambda path, fitted, stream: write_dataset(_dataset(), path)
        for end in (".csv", ".csv.gz", ".tsv", ".parquet", ".npz", ".nc")
    },
    **{
        f"table{end}": lambda path, fitted, stream: write_table(Table(ROWS, ("a", "b", "c", "d")), path)
        for end in (".csv", ".npz", ".nc")
    },
    "fit.nc": lambda path, fitted, stream: fitted.save(path),
    "fit.html": lambda path, fitted, stream: fitted.report(path),
    "fit.json": lambda path, fitted, stream: fitted.parameters().save(path),
    "parameters.npz": lambda path, fitted, stream: fitted.parameters().save(path),
    "stream.nc": lambda path, fitted, stream: stream.save(path),
    "run.ckpt": lambda path, fitted, stream: _checkpoint(path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_where_there_is_no_room_the_older_file_stays(name: str, fitted: Fit, stream: Stream, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text("old")
    with no_room(), pytest.raises(InputError, match=rf"{name}: it could not be written \(.*File too large\)"):
        WRITERS[name](path, fitted, stream)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture(params=["12k"])
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder on a disk of this size."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = shutil.which("mount")
    options = ["-t", "tmpfs", "-o", f"size={request.param}", "tmpfs", str(folder)]
    if mount is None or subprocess.run([mount, *options], capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_fit_that_finds_the_disk_full_is_saved_in_the_temporary_folder(
    small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(
        InputError, match=r"fit.nc: .*No space left on device.* The fit was saved as .* instead"
    ) as told:
        fit(X, components=2, engine="em", covariance="full", restarts=2, seed=1, output=small_disk / "fit.nc")
    assert list(small_disk.iterdir()) == []
    (rescued,) = tmp_path.glob("probam-*.nc")
    assert str(rescued) in str(told.value)
    assert load(rescued).predict(X).sizes["datum"] == len(X)


def test_where_the_other_folder_is_full_too_the_disk_is_named(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk))
    with pytest.raises(InputError, match=r"fit.nc: .*No space left on device\)$"):
        fit(X, components=2, engine="em", covariance="full", restarts=2, seed=1, output=small_disk / "fit.nc")
    assert list(small_disk.iterdir()) == []


@pytest.mark.parametrize("small_disk", ["40k"], indirect=True)
def test_what_the_engine_returned_stays_where_the_whole_fit_has_no_room(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("probam.fits.fit._SOON_AGAIN", 0.0)
    path = small_disk / "fit.nc"
    with pytest.raises(InputError, match=r"No space left on device\). .*fit.nc holds what the engine returned"):
        fit(X, components=2, engine="em", covariance="full", restarts=2, seed=1, output=path)
    assert list(small_disk.iterdir()) == [path]
    assert load(path).predict(X).sizes["datum"] == len(X)
