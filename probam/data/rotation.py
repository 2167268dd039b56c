"""A file that a long run writes again and again: one writer, a seal that notices any other bit, the last two kept.

``FILE`` is the version written last and ``FILE.previous`` the one before. Each ends in a seal, the SHA-256 of all bytes
before it, which readers of NPZ and NetCDF pass over. While a run goes on, ``FILE.lock`` is locked by it. A
:class:`Keeper` writes such a file now and then, and at the latest when it is closed.
"""

import hashlib
import logging
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, TypeVar

from probam.data.pieces import cause
from probam.data.writing import beside, check_writable, write_atomically
from probam.errors import InputError

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["EVERY", "Fill", "Keeper", "RotatedFile", "SavedIfCutOff", "is_sealed", "save_all", "seal"]

EVERY = 5.0
"""Seconds between two writings, at least."""

_SHARE = 20
"""Writing takes no more than one part in so many of a run's time."""

_log = logging.getLogger(__name__)

_SEAL = b"\nprobam sha256 "
_SEALED = len(_SEAL) + 64
"""Bytes of a seal."""

_BLOCK = 1 << 20

_T = TypeVar("_T")

Fill = Callable[[Path], object]
"""Writes to the path that it is given."""


def seal(path: Path) -> None:
    """Append the digest of a file's bytes to it."""
    with path.open("r+b") as stream:
        digest = _digest(stream, path.stat().st_size)
        stream.seek(0, os.SEEK_END)
        stream.write(_SEAL + digest)


def is_sealed(path: Path) -> bool:
    """Whether a file ends in a seal and every bit before it is what was sealed."""
    try:
        size = path.stat().st_size - _SEALED
        with path.open("rb") as stream:
            return size > 0 and _SEAL + _digest(stream, size) == stream.read(_SEALED + 1)
    except OSError as error:
        raise InputError(f"{path}: it cannot be read ({cause(error)})") from error


def _digest(stream: IO[bytes], size: int) -> bytes:
    """The digest of the next ``size`` bytes."""
    found = hashlib.sha256()
    while size > 0 and (block := stream.read(min(size, _BLOCK))):
        found.update(block)
        size -= len(block)
    return found.hexdigest().encode()


class RotatedFile:
    """The file of one run, locked until :meth:`close`.

    Args:
        path: where it is, or will be written.
        what: the option that named it, for messages.

    Raises:
        InputError: where no file can be written at ``path``, or another run goes on that writes it.
    """

    def __init__(self, path: str | os.PathLike[str], what: str = "checkpoint") -> None:
        self.name = os.fspath(path)
        self.path = check_writable(path)
        self.previous = self.path.with_name(f"{self.path.name}.previous")
        self._what = what
        self._is_damaged = False
        self._lock = self.path.with_name(f"{self.path.name}.lock")
        self._descriptor: int | None = self._locked()

    def _locked(self) -> int:
        """The open lock file, for this run alone."""
        while True:
            try:
                descriptor = os.open(self._lock, os.O_CREAT | os.O_RDWR, 0o666)
            except OSError as error:
                raise InputError(f"{self._what}: {self._lock} cannot be written ({cause(error)})") from error
            try:
                if fcntl is not None:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                holder = os.read(descriptor, 200).decode(errors="replace")
                os.close(descriptor)
                raise InputError(
                    f"{self._what}: a run that goes on writes {self.name}{holder and f' ({holder})'}; let it end, or "
                    "name another file"
                ) from error
            except OSError:  # a file system without locks
                pass
            if self._is_in_place(descriptor):
                break
            os.close(descriptor)  # the run before has removed it in the meantime
        with suppress(OSError):  # the holder's name is a help, no more
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
        return descriptor

    def _is_in_place(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self._lock.stat())
        except OSError:
            return False

    def close(self) -> None:
        """Let another run have the file."""
        if self._descriptor is not None:
            self._lock.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None

    def read(self, reader: Callable[[Path], _T]) -> _T | None:
        """What ``reader`` makes of the version written last, or of the one before where that is damaged.

        None where there is no file.

        Raises :class:`probam.errors.InputError` where no version is whole.
        """
        if not self.path.exists():
            return None
        if is_sealed(self.path):
            return reader(self.path)
        both = self.previous.exists()
        if both and is_sealed(self.previous):
            self._is_damaged = True
            _log.warning("%s is damaged; going on from %s, the version before", self.name, self.previous.name)
            return reader(self.previous)
        names = f"{self.name} and {self.previous.name} are no complete checkpoints" if both else ""
        raise InputError(
            f"{self._what}: {names or f'{self.name} is not a complete checkpoint'} (cut off, changed, or of an older "
            f"version of probam); delete {'them' if both else 'it'} to start again, or name another file"
        )

    def write(self, fill: Fill) -> None:
        """A new version, completely or not at all; the one before is kept where it was whole.

        Raises :class:`probam.errors.InputError` where it cannot be written; both versions are then as they were.
        """
        present = beside(self.path)
        try:
            with write_atomically(self.path) as temporary:
                fill(temporary)
                seal(temporary)
                if self.path.exists() and not self._is_damaged:
                    self._name_present(present)
            if present.exists():
                os.replace(present, self.previous)
        finally:
            present.unlink(missing_ok=True)
        self._is_damaged = False

    def _name_present(self, name: Path) -> None:
        """Another name for the present version, which becomes the one before when the new one has its place.

        At every moment ``FILE`` is there and whole, and ``FILE.previous`` is a version of its own: two names of one
        file would be damaged together.
        """
        try:
            os.link(self.path, name)
        except OSError:  # a file system without links
            shutil.copyfile(self.path, name)


class Keeper:
    """Keeps the newest state of a run in a :class:`RotatedFile`; as a context it closes it.

    It may be closed by another thread than the one that works: what comes afterwards is not written.

    Args:
        path: the file.
        what: the option that named it, for messages.
        every: seconds between two writings, at least; None for :data:`EVERY`, and longer where writing takes long.
    """

    def __init__(self, path: str | os.PathLike[str], what: str = "checkpoint", *, every: float | None = None) -> None:
        self._every = every
        self._newest: Fill | None = None
        self._writing = threading.RLock()
        self._cost, self._last = 0.0, time.monotonic()
        self._file: RotatedFile | None = RotatedFile(path, what)
        _open.add(self)

    def __enter__(self) -> "Keeper":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, reader: Callable[[Path], _T]) -> _T | None:
        """As :meth:`RotatedFile.read`; the file is closed where it cannot be used."""
        assert self._file is not None
        try:
            return self._file.read(reader)
        except BaseException:
            self.close()
            raise

    def put(self, fill: Fill) -> None:
        """The newest state, which is written if that is due; ``fill`` may be called later."""
        with self._writing:
            if self._file is None:
                return
            self._newest = fill
            pause = self._every if self._every is not None else EVERY and max(EVERY, _SHARE * self._cost)
            if time.monotonic() - self._last >= pause:
                self._write(self._file)

    def close(self) -> None:
        """Write what is new, and let another run have the file; where it cannot be written, the log says so."""
        with self._writing:
            if self._file is None:
                return
            try:
                self._write(self._file)
            except InputError as error:
                _log.warning("the last steps are not in the checkpoint: %s", error)
            finally:
                self._file.close()
                self._file = None
                _open.discard(self)

    def _write(self, file: RotatedFile) -> None:
        fill, self._newest = self._newest, None  # what cannot be written now is not tried again at the end
        if fill is not None:
            began = time.monotonic()
            file.write(fill)
            self._last = time.monotonic()
            self._cost = self._last - began


class SavedIfCutOff:
    """A context: what is done within it is saved if an error ends it, or the process while another thread is in it.

    Args:
        save: called once, or not at all where the context is left as it should be.
    """

    def __init__(self, save: Callable[[], object]) -> None:
        self._save: Callable[[], object] | None = save
        self._saving = threading.RLock()

    def __enter__(self) -> "SavedIfCutOff":
        _open.add(self)
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        with self._saving:
            if error is None:
                self._save = None
            self.close()

    def close(self) -> None:
        """Save, where that was not done before."""
        with self._saving:
            _open.discard(self)
            save, self._save = self._save, None
            if save is not None:
                save()


_open: set[Keeper | SavedIfCutOff] = set()
"""Those of the runs that go on."""


def save_all() -> None:
    """Write what the runs of this process have and close their files: for a process that ends while they go on."""
    for each in tuple(_open):
        each.close()
