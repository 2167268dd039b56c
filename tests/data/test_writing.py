"""A file is whole or not there; results by row in every kind of file."""

import os
import resource
import stat
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from probam.data.table import Table
from probam.data.writing import (
    _Forgiving,
    check_writable,
    netcdf,
    write_atomically,
    write_dataset,
    write_netcdf,
    write_table,
)
from probam.errors import InputError


def test_a_file_appears_whole_under_its_own_name_alone(tmp_path: Path) -> None:
    target = tmp_path / "out.tar.gz"
    with write_atomically(target) as file:
        assert file.parent == tmp_path
        assert file.name.endswith(".tar.gz")
        assert not target.exists()
        file.write_text("done")
    assert target.read_text() == "done"
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And then its name is, so that a loss of power leaves the old file or the new one."""
    done: list[str] = []
    sync, replace = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        status = os.fstat(descriptor)
        done.append("folder" if stat.S_ISDIR(status.st_mode) else f"{status.st_size} bytes")
        sync(descriptor)

    def renamed(source: Path, target: Path) -> None:
        done.append(f"named {target.name}")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    with write_atomically(tmp_path / "run.ckpt") as file:
        file.write_bytes(bytes(1000))
    assert done == ["1000 bytes", "named run.ckpt", "folder"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_any_exception_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "fit.nc"
    target.write_text("old")
    with pytest.raises(error), write_atomically(target) as file:  # noqa: PT012
        file.write_text("half of it")
        raise error
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_what_a_killed_process_left_is_removed_after_a_day(tmp_path: Path) -> None:
    old, young, other = (
        tmp_path / name for name in (f".probam-{'0a' * 8}.nc", f".probam-{'b1' * 8}.nc", ".probam-notes")
    )
    for path in (old, young, other):
        path.write_text("half of it")
    for path in (old, other):
        os.utime(path, (time.time() - 90_000,) * 2)
    with write_atomically(tmp_path / "fit.nc"):
        pass
    assert sorted(tmp_path.iterdir()) == sorted([young, other, tmp_path / "fit.nc"])


def test_a_full_disk_is_told_in_one_sentence(tmp_path: Path) -> None:
    words = r"fit.nc: it could not be written \(No space left on device\)"
    with pytest.raises(InputError, match=words), write_atomically(tmp_path / "fit.nc"):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_permissions_follow_the_umask_and_then_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.csv"
    plain = tmp_path / "plain"
    plain.touch()
    with write_atomically(target):
        pass
    assert stat.S_IMODE(target.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)
    target.chmod(0o640)
    with write_atomically(target):
        pass
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    link = tmp_path / "link.csv"
    link.symlink_to(tmp_path / "far" / "real.csv")
    with write_atomically(link) as file:
        file.write_text("1")
    assert link.is_symlink()
    assert (tmp_path / "far" / "real.csv").read_text() == "1"


def test_places_that_cannot_be_written_are_refused_beforehand(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    refused: list[tuple[str | Path, str]] = [
        (tmp_path / "folder", "it is a folder"),
        (f"{tmp_path}/new/", "it is a folder"),
        (tmp_path / "gone" / "x.nc", "the folder .*gone does not exist; create it first"),
        (tmp_path / "file" / "x.nc", "does not exist|cannot be written"),
        ("/dev/null", "not a regular file"),
        ("/proc/x.nc", "cannot be written"),
        (tmp_path / ("x" * 5000), "cannot be written"),
        ("a\0b", "cannot be written"),
    ]
    for path, words in refused:
        with pytest.raises(InputError, match=words):
            check_writable(path)
    with pytest.raises(InputError, match=r"ends in .nc, .csv$"):
        check_writable(tmp_path / "x.txt", suffixes=(".nc", ".csv"))
    check_writable(tmp_path / "X.NC", suffixes=(".nc",))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_or_file_without_permission_is_refused(tmp_path: Path) -> None:
    (tmp_path / "old.nc").touch(0o400)
    with pytest.raises(InputError, match="read-only"):
        check_writable(tmp_path / "old.nc")
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="cannot be written"):
        check_writable(tmp_path / "new.nc")
    tmp_path.chmod(0o700)


RESULTS = xr.Dataset(
    {
        "state": (("query", "feature"), np.array([[0.1, 2.0], [1 / 3, -4.0], [5.0, 6.0]])),
        "steps": ("query", np.array([3, 4, 5])),
        "converged": ("query", np.array([True, False, True])),
        "responsibilities": (("query", "memory"), np.eye(3)),
    },
    coords={"feature": ["eruptions", "steps"], "memory": [0, 1, 2]},
)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".csv.gz", ".parquet"])
def test_flat_results_have_one_row_per_query(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    write_dataset(RESULTS, path, plain="state")
    separator = "\t" if suffix == ".tsv" else ","
    frame = pd.read_parquet(path) if suffix == ".parquet" else pd.read_csv(path, sep=separator)
    assert list(frame) == ["eruptions", "state_steps", "steps", "converged"] + [
        f"responsibilities_{k}" for k in range(3)
    ]
    np.testing.assert_array_equal(frame["eruptions"], RESULTS["state"][:, 0])
    np.testing.assert_array_equal(frame["steps"], [3, 4, 5])
    np.testing.assert_array_equal(frame["converged"], [True, False, True])


def test_arrays_keep_their_shape_in_npz_and_netcdf(tmp_path: Path) -> None:
    write_dataset(RESULTS, tmp_path / "out.nc")
    with xr.open_dataset(tmp_path / "out.nc") as data:
        xr.testing.assert_equal(data.load(), RESULTS)
    write_dataset(RESULTS, tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["state"], RESULTS["state"])
        assert list(arrays["feature"]) == ["eruptions", "steps"]


def test_a_netcdf_file_on_disk_has_the_bytes_of_one_in_memory(tmp_path: Path) -> None:
    write_netcdf(RESULTS, tmp_path / "out.nc")
    assert (tmp_path / "out.nc").read_bytes() == netcdf(RESULTS)


def test_hdf5_is_told_of_no_failure_wherever_the_room_ends(tmp_path: Path) -> None:
    """It would end the process. What it reads back is what it wrote."""
    whole = netcdf(RESULTS)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for room in range(0, len(whole), 997):
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
        try:
            with _Forgiving(tmp_path / "out.nc") as content:
                RESULTS.to_netcdf(content, engine="h5netcdf", format="NETCDF4")
                content.seek(0)
                assert content.read() == whole
            with pytest.raises(OSError, match="File too large"):
                write_netcdf(RESULTS, tmp_path / "out.nc")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert isinstance(content.failure, OSError)


@pytest.mark.parametrize("suffix", [".csv", ".npz", ".nc"])
def test_labels_travel_beside_the_data(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t{suffix}"
    labels = np.array(["u", "v"])
    write_table(Table(np.array([[1.0, 2.0], [3.0, 4.0]]), ("a", "b")), path, labels=labels)
    if suffix == ".csv":
        assert path.read_text() == "a,b,label\n1.0,2.0,u\n3.0,4.0,v\n"
    elif suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            np.testing.assert_array_equal(arrays["y"], labels)
    else:
        with xr.open_dataset(path) as data:
            np.testing.assert_array_equal(data["label"], labels)
