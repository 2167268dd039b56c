"""A file that a run writes again and again: any other bit is noticed, the version before serves, one run writes it."""

import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from probam.data import rotation
from probam.data.rotation import Fill, Keeper, RotatedFile, SavedIfCutOff, is_sealed, save_all, seal
from probam.errors import InputError
from tests.fits.test_full_disk import no_room


def number(value: int) -> Fill:
    """Writes a number into an NPZ file."""

    def fill(path: Path) -> None:
        with path.open("wb") as stream:
            np.savez(stream, value=value)

    return fill


def read(path: Path) -> int:
    with np.load(path) as file:
        return int(file["value"])


def written(path: Path, *values: int) -> None:
    file = RotatedFile(path)
    for value in values:
        file.write(number(value))
    file.close()


def found(path: Path) -> int | None:
    file = RotatedFile(path)
    try:
        return file.read(read)
    finally:
        file.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.ckpt"


def test_every_bit_counts_and_so_does_every_byte_that_is_missing(path: Path, tmp_path: Path) -> None:
    written(path, 7)
    whole, other = path.read_bytes(), tmp_path / "other"
    for bit in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        other.write_bytes(flipped)
        assert not is_sealed(other), bit
    for length in range(len(whole)):
        other.write_bytes(whole[:length])
        assert not is_sealed(other), length
    other.write_bytes(whole + b"\n")
    assert not is_sealed(other)
    assert is_sealed(path)


def test_the_last_two_versions_are_kept(path: Path) -> None:
    written(path, 1, 2, 3)
    assert (read(path), read(path.with_name("run.ckpt.previous"))) == (3, 2)
    assert sorted(os.listdir(path.parent)) == ["run.ckpt", "run.ckpt.previous"]


_KILLED = """
import os, signal, sys
import numpy as np
from probam.data.rotation import RotatedFile

file, moment, seen = RotatedFile(sys.argv[1]), int(sys.argv[2]), 0

def killed_beside(work):
    def called(*arguments):
        global seen
        for step in (lambda: work(*arguments), lambda: None):
            if seen == moment:
                os.kill(os.getpid(), signal.SIGKILL)
            seen += 1
            step()
    return called

os.link, os.replace = killed_beside(os.link), killed_beside(os.replace)
file.write(lambda path: np.savez(path.open("wb"), value=3))
"""


def test_wherever_a_write_is_killed_two_versions_of_their_own_are_whole(tmp_path: Path) -> None:
    """Before and after each change of a name; two names of one file would be damaged together."""
    expected = {0: (2, 1), 1: (2, 1), 2: (2, 1), 3: (3, 1), 4: (3, 1), 5: (3, 2)}
    paths = [tmp_path / str(moment) / "run.ckpt" for moment in expected]
    for path in paths:
        path.parent.mkdir()
        written(path, 1, 2)
    runs = [subprocess.Popen([sys.executable, "-c", _KILLED, path, path.parent.name]) for path in paths]
    assert [run.wait(timeout=100) for run in runs] == [-signal.SIGKILL] * len(runs)
    for path, versions in zip(paths, expected.values(), strict=True):
        previous = path.with_name("run.ckpt.previous")
        assert (read(path), read(previous)) == versions
        assert is_sealed(path)
        assert is_sealed(previous)
        assert not path.samefile(previous)
        written(path, 4)
        assert (read(path), read(previous)) == (4, versions[0])
        assert {"run.ckpt", "run.ckpt.previous"} == {name for name in os.listdir(path.parent) if ".probam-" not in name}


@pytest.mark.parametrize("damage", [lambda full: full[:-9], lambda full: b"x" + full[1:], lambda full: b""])
def test_a_damaged_file_is_told_and_the_version_before_serves(
    damage: Callable[[bytes], bytes], path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    written(path, 1, 2)
    path.write_bytes(damage(path.read_bytes()))
    with caplog.at_level(logging.WARNING, "probam"):
        file = RotatedFile(path)
        assert file.read(read) == 1
    assert caplog.messages == [f"{path} is damaged; going on from run.ckpt.previous, the version before"]
    file.write(number(3))  # in the place of the damaged one: what is whole is not given up for it
    file.close()
    assert (found(path), read(path.with_name("run.ckpt.previous"))) == (3, 1)


def test_where_both_are_damaged_they_are_named_and_left_alone(path: Path) -> None:
    written(path, 1, 2)
    both = (path, path.with_name("run.ckpt.previous"))
    for each in both:
        each.write_bytes(each.read_bytes()[:-1])
    before = [each.read_bytes() for each in both]
    with pytest.raises(InputError, match=r"run.ckpt and run.ckpt.previous are no complete .*; delete them to start"):
        found(path)
    assert [each.read_bytes() for each in both] == before
    for content in (b"loc,scale\n1,2\n", b""):  # a file of the user's own
        path.write_bytes(content)
        path.with_name("run.ckpt.previous").unlink(missing_ok=True)
        with pytest.raises(
            InputError, match=r"run.ckpt is not a complete checkpoint .*delete it to start again, or name"
        ):
            found(path)
        assert path.read_bytes() == content


def test_who_deletes_the_file_starts_again(path: Path) -> None:
    written(path, 1, 2)
    path.unlink()
    assert found(path) is None


def test_dates_of_files_decide_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock may go back, between two versions or between two runs."""
    written(path, 1, 2)
    os.utime(path, (10, 10))
    monkeypatch.setattr(time, "time", lambda: 5.0)
    assert found(path) == 2
    monkeypatch.setattr(rotation, "EVERY", 0.05)
    with Keeper(path) as keeper:
        keeper.put(number(3))
        time.sleep(0.1)
        keeper.put(number(4))
        assert read(path) == 4


def test_two_runs_do_not_share_a_file(path: Path) -> None:
    with Keeper(path) as keeper:
        with pytest.raises(
            InputError, match=rf"a run that goes on writes .*run.ckpt \(process {os.getpid()} on .*let it"
        ):
            Keeper(path)
        keeper.put(number(1))
    assert found(path) == 1


_HOLDER = """
import sys, time
from pathlib import Path
from probam.data.rotation import Keeper
keeper = Keeper(sys.argv[1])
print("held", flush=True)
time.sleep(60)
"""


def test_a_killed_run_does_not_hold_its_file(path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", _HOLDER, str(path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(InputError, match=rf"process {holder.pid} on"):
            Keeper(path)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    written(path, 5)
    assert found(path) == 5


def test_what_cannot_be_written_leaves_both_versions(path: Path) -> None:
    written(path, 1, 2)
    file = RotatedFile(path)
    with no_room(), pytest.raises(InputError, match=r"run.ckpt: it could not be written \(.*File too large\)"):
        file.write(lambda temporary: temporary.write_bytes(bytes(1000)))
    file.close()
    assert (found(path), read(path.with_name("run.ckpt.previous"))) == (2, 1)
    assert sorted(os.listdir(path.parent)) == ["run.ckpt", "run.ckpt.previous"]


def test_the_end_of_a_run_that_cannot_be_written_is_told_and_no_error(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its result is at hand: it must not be lost for a checkpoint."""
    with caplog.at_level(logging.WARNING, "probam"), no_room(), Keeper(path) as keeper:
        keeper.put(lambda temporary: temporary.write_bytes(bytes(1000)))
    assert len(caplog.messages) == 1
    assert "the last steps are not in the checkpoint" in caplog.messages[0]


def test_a_file_is_not_written_more_often_than_asked_and_at_the_end_in_any_case(path: Path) -> None:
    with Keeper(path, every=3600) as keeper:
        for value in range(5):
            keeper.put(number(value))
        assert not path.exists()
    assert found(path) == 4
    assert not path.with_name("run.ckpt.previous").exists()


def test_writing_that_takes_long_is_done_more_seldom(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation, "EVERY", 0.01)

    def slowly(value: int) -> Fill:
        def fill(temporary: Path) -> None:
            time.sleep(0.2)
            number(value)(temporary)

        return fill

    with Keeper(path) as keeper:
        time.sleep(0.02)
        keeper.put(slowly(1))
        for value in range(2, 6):
            time.sleep(0.02)
            keeper.put(slowly(value))
        assert read(path) == 1  # the next one is due after twenty times 0.2 seconds


def test_all_that_go_on_are_saved_at_once_and_closed(path: Path) -> None:
    keeper = Keeper(path, every=3600)
    keeper.put(number(1))
    save_all()
    assert found(path) == 1  # another run may have it
    keeper.put(number(2))  # the thread that worked may go on: nothing is written
    keeper.close()
    assert found(path) == 1


def test_what_is_cut_off_is_saved_once_by_the_thread_that_ends_it_and_never_where_it_was_done() -> None:
    saved: list[int] = []
    with SavedIfCutOff(lambda: saved.append(1)):
        pass
    save_all()
    assert saved == []
    with pytest.raises(ZeroDivisionError), SavedIfCutOff(lambda: saved.append(2)):
        raise ZeroDivisionError
    with SavedIfCutOff(lambda: saved.append(3)):
        save_all()
        assert saved == [2, 3]
    assert saved == [2, 3]


def test_a_folder_that_cannot_be_written_is_told_before_the_work(path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        RotatedFile(path.parent / "nowhere" / "run.ckpt")
    mount, folder = shutil.which("mount"), path.parent / "small"
    folder.mkdir()
    if (
        mount is None
        or subprocess.run([mount, "-t", "tmpfs", "tmpfs", folder], capture_output=True, check=False).returncode
    ):
        pytest.skip("only root can mount a disk that cannot be written")
    try:
        written(folder / "run.ckpt", 1)
        subprocess.run([mount, "-o", "remount,ro", folder], check=True)
        with pytest.raises(InputError, match=r"run.ckpt: .*Read-only file system|run.ckpt: the file is read-only"):
            RotatedFile(folder / "run.ckpt")
        assert read(folder / "run.ckpt") == 1
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_sealed_file_is_still_what_it_was(path: Path) -> None:
    number(3)(path)
    seal(path)
    assert is_sealed(path)
    assert read(path) == 3
