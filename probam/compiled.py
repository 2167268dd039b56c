"""Compiled programs kept on disk, so that a second process need not compile what the first one did.

The first fit of a kind spends most of its seconds in XLA. :func:`keep_compiled` tells JAX to keep what it compiles in
a folder of the user's cache; the command line calls it, a library user may. A folder holds the programs of one
version of JAX on one kind of processor, because machine code of another may not run.
"""

import hashlib
import os
import platform
import warnings
from functools import cache
from pathlib import Path

from platformdirs import user_cache_path

from probam.errors import InputError

__all__ = ["SWITCH", "compiler_options", "keep_compiled"]

SWITCH = "PROBAM_COMPILED"
"""Environment variable: ``off`` keeps nothing, any other value is the folder to keep compiled programs in."""

_LARGEST = 1 << 30
"""Bytes above which the programs that were used longest ago are dropped."""


def keep_compiled(folder: str | os.PathLike[str] | None = None) -> Path | None:
    """Keep compiled programs in ``folder`` from now on, and use those that are there; returns where.

    Without a folder the environment variable ``PROBAM_COMPILED`` decides, and without that the user's cache folder.
    Settings of JAX's own (``JAX_COMPILATION_CACHE_DIR``) are left alone; ``None`` is returned where nothing is kept.
    Call it before the first computation.

    Raises :class:`probam.errors.InputError` where a folder that was asked for cannot be made.
    """
    import jax

    asked = folder if folder is not None else os.environ.get(SWITCH)
    if asked == "off" or (asked is None and getattr(jax.config, "jax_compilation_cache_dir", None) is not None):
        return None
    place = Path(asked) if asked is not None else user_cache_path("probam")
    place = place / f"jax-{jax.__version__}-{_processor()}"
    try:
        place.mkdir(parents=True, exist_ok=True)
        _drop_oldest(place)
    except OSError as error:
        if asked is None:
            return None  # a home that cannot be written to is no reason to stop
        raise InputError(
            f"{SWITCH}: expected a folder that can be written to, or 'off'; got {os.fspath(asked)!r} ({error.strerror})"
        ) from error
    jax.config.update("jax_compilation_cache_dir", str(place))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    # JAX compiles anew where an entry cannot be read (another process is just writing it, say), and warns
    warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation cache")
    return place


def _processor() -> str:
    """Short name for what machine code runs here: architecture and, where the system tells, the instruction sets."""
    description = [platform.system(), platform.machine(), platform.processor()]
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text(encoding="utf-8", errors="replace").splitlines()
        description += [line for line in lines if line.startswith(("flags", "Features"))][:1]
    return hashlib.sha256("\n".join(description).encode()).hexdigest()[:10]


def _drop_oldest(place: Path) -> None:
    """Make room: delete entries, last used longest ago first, until the folder holds at most half of its limit."""
    entries = [(path, path.stat()) for path in place.iterdir() if path.is_file()]
    size = sum(status.st_size for _, status in entries)
    if size <= _LARGEST:
        return
    for path, status in sorted(entries, key=lambda entry: max(entry[1].st_atime, entry[1].st_mtime)):
        path.unlink(missing_ok=True)
        size -= status.st_size
        if size <= _LARGEST // 2:
            return


@cache
def compiler_options() -> dict[str, bool | int] | None:
    """Options that compile three times faster, where this version of XLA knows them.

    Each program runs a dozen times on small arrays: optimising its machine code costs more than it saves.
    """
    import jax

    options: dict[str, bool | int] = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
    try:
        jax.jit(lambda x: x + 1, compiler_options=options)(1.0)
    except (RuntimeError, ValueError):
        return None
    return options
