"""One process of several that fit together: how the command is connected to the others, and how it ends with them."""

import os
import sys
import threading
from functools import partial
from typing import NamedTuple

from probam.cli.console import be_quiet, interruptible, say
from probam.errors import InputError

__all__ = ["Place", "connect", "leave"]

_HEARTBEAT = 30
"""Seconds without a sign of life after which a process is taken to be lost."""

_SHUTDOWN = 600
"""Seconds that processes wait for the last one when all is done."""

_FATAL = "JAX distributed service detected fatal errors"
"""What JAX says before it aborts a process whose coordinator, or another process, is lost."""

_connected = False


class Place(NamedTuple):
    """Where this process stands among the others; None: as the launcher says."""

    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None

    def check(self, *, distributed: bool) -> None:
        """Raise :class:`probam.errors.InputError` for numbers that no process can have."""
        given = [name for name, value in zip(self._fields, self, strict=True) if value is not None]
        if given and not distributed:
            raise InputError(f"--{given[0].replace('_', '-')}: it is for --distributed; give that too, or leave it out")
        if self.coordinator is not None and not self.coordinator.rpartition(":")[2].isdigit():
            raise InputError(f"--coordinator: expected HOST:PORT; got {self.coordinator!r}")
        number, count = self.process_id, self.num_processes
        if number is not None and count is not None and not 0 <= number < count:
            raise InputError(f"--process-id: expected a number from 0 to {count - 1}; got {number}")


def connect(place: Place) -> bool:
    """Connect to the other processes; whether this is the first, which writes and prints.

    Raises :class:`probam.errors.InputError` where no launcher says which process this is, or the others do not come.
    """
    global _connected
    import jax

    _plain_words()
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM for itself
    try:
        interruptible(partial(_join_others, place))  # it waits for them, deaf to signals
    except ValueError as error:
        raise InputError(
            "--distributed: no Slurm, Open MPI or Kubernetes job of several processes is found around this one "
            f"({error}); give --coordinator HOST:PORT, --num-processes and --process-id"
        ) from error
    except RuntimeError as error:
        raise InputError(f"--distributed: the processes cannot be connected ({error})") from error
    _connected = True
    first = jax.process_index() == 0
    if not first:
        be_quiet(True)
    return first


def _join_others(place: Place) -> None:
    import jax

    jax.distributed.initialize(
        *place,
        cluster_detection_method=None if None in place else "deactivate",  # nothing is left to be found out
        heartbeat_timeout_seconds=_HEARTBEAT,
        shutdown_timeout_seconds=_SHUTDOWN,
    )


def leave(code: int) -> int:
    """The exit code of a command; a process that fails goes at once, so that the others learn of it."""
    if _connected and code:
        from probam.data.writing import remove_unfinished

        remove_unfinished()
        sys.stdout.flush()
        os._exit(code)
    return code


def _plain_words() -> None:
    """Python keeps standard output and error; what libraries write there by themselves is read by a thread.

    It drops it, but for the one thing that matters: JAX is about to abort this process, because another is lost.
    """
    for number, name in ((1, "stdout"), (2, "stderr")):
        getattr(sys, name).flush()
        setattr(sys, name, os.fdopen(os.dup(number), "w", buffering=1, encoding=getattr(sys, name).encoding))
    read, write = os.pipe()
    os.dup2(write, 1)
    os.dup2(write, 2)
    threading.Thread(target=_listen, args=(read,), daemon=True).start()


def _listen(read: int) -> None:
    for line in os.fdopen(read, errors="replace"):
        if _FATAL in line:
            say(
                "distributed: another process of this run is lost, so that this one ends too; start all of them "
                "again; with a checkpoint they go on from there"
            )
            os._exit(2)
