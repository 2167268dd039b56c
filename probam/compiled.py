"""A cache of compiled programs on disk, so that a second process does not compile the same programs again.

The first fit of a kind spends most of its time in XLA. :func:`keep_compiled` makes JAX store compiled programs in a
folder of the user's cache. The command line calls it; users of the library may. There is one folder for each version
of JAX and type of processor, because machine code for another processor may not run.
"""

import hashlib
import os
import platform
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache, wraps
from importlib.metadata import version
from pathlib import Path
from stat import S_ISREG
from typing import Any, ParamSpec, TypeVar

from platformdirs import user_cache_path

from probam.errors import InputError

__all__ = [
    "SWITCH",
    "compiled_by_size",
    "compiled_by_work",
    "compiled_quickly",
    "compiler_options",
    "drop_oldest",
    "filled_number",
    "is_small",
    "keep_compiled",
    "kept_folder",
]

SWITCH = "PROBAM_COMPILED"
"""Environment variable: ``off`` disables the cache, any other value is its folder."""

_SMALL = 200_000
"""Most numbers (rows x features x memories) of a problem for which compiling costs more than running does."""

_BRIEF = 20_000_000
"""Most data times site values of all draws that a program goes through in a moment."""

_MODERATE = 50 * _BRIEF
"""Most of them for which the best machine code saves less time than it costs to make."""

_P = ParamSpec("_P")
_R = TypeVar("_R")

_LARGEST = 1 << 30
"""Size of a folder of the cache in bytes above which the least recently used entries are deleted."""

_folder: Path | None = None
"""Where this process keeps compiled programs and what else can be made again."""


def keep_compiled(folder: str | os.PathLike[str] | None = None) -> Path | None:
    """Store compiled programs on disk and use those already there. Call it before the first computation.

    Args:
        folder: where to store them. None means the folder in the environment variable ``PROBAM_COMPILED`` or, if that
            is not set, the user's cache folder; JAX's own setting (``JAX_COMPILATION_CACHE_DIR``) then has priority
            over the latter.

    XLA of jaxlib 0.9 writes lines to standard error about kept programs that it reads; set the variable
    ``TF_CPP_MIN_LOG_LEVEL`` to 3 before jax is imported to have none, as the command line does.

    Returns:
        The folder used, or None where the cache is off, is set by JAX, or cannot be written to.

    Raises:
        InputError: when an explicitly requested folder cannot be created.
    """
    global _folder
    import jax

    asked = folder if folder is not None else os.environ.get(SWITCH)
    if asked == "off":
        _folder = None
    if asked == "off" or (asked is None and getattr(jax.config, "jax_compilation_cache_dir", None) is not None):
        return None
    place = Path(asked) if asked is not None else user_cache_path("probam")
    place = place / f"jax-{jax.__version__}-{_processor()}"
    try:
        place.mkdir(parents=True, exist_ok=True)
        drop_oldest(place)
    except OSError as error:
        if asked is None:
            return None  # work without a cache where the home folder cannot be written to
        raise InputError(
            f"{SWITCH}: expected a folder that can be written to, or 'off'; got {os.fspath(asked)!r} ({error.strerror})"
        ) from error
    jax.config.update("jax_compilation_cache_dir", str(place))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    # JAX compiles again where an entry cannot be read (while another process writes it, for example), and warns
    warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation cache")
    _folder = place
    return place


def kept_folder() -> Path | None:
    """The folder that :func:`keep_compiled` has chosen in this process; None where nothing is kept."""
    import jax

    return _folder if str(_folder) == getattr(jax.config, "jax_compilation_cache_dir", None) else None


def _processor() -> str:
    """Short hash of what machine code depends on: the architecture and, where known, the instruction sets."""
    description = [platform.system(), platform.machine(), platform.processor()]
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text(encoding="utf-8", errors="replace").splitlines()
        description += [line for line in lines if line.startswith(("flags", "Features"))][:1]
    return hashlib.sha256("\n".join(description).encode()).hexdigest()[:10]


def drop_oldest(place: Path) -> None:
    """If a folder exceeds its limit, delete the least recently used entries until it holds at most half of it."""
    entries = []
    for path in place.iterdir():
        with suppress(FileNotFoundError):  # another process may delete it meanwhile
            status = path.stat()
            entries += [(path, status)] if S_ISREG(status.st_mode) else []
    size = sum(status.st_size for _, status in entries)
    if size <= _LARGEST:
        return
    for path, status in sorted(entries, key=lambda entry: max(entry[1].st_atime, entry[1].st_mtime)):
        path.unlink(missing_ok=True)
        size -= status.st_size
        if size <= _LARGEST // 2:
            return


def compiler_options(*, often: bool = False) -> dict[str, bool | int] | None:
    """Compiler options for programs on small arrays; None on another device than a CPU, or if this XLA has none.

    They make compilation about three times faster, since optimising the machine code of such programs costs more than
    it saves.

    Args:
        often: whether the program runs hundreds of times. It is then as fast as any, and compiled in two thirds of the
            time.
    """
    from probam.placement import found  # which imports JAX

    options = _known_options() if found().is_cpu else {}
    return {**options, "xla_backend_optimization_level": int(often)} if options else None


@cache
def _known_options() -> dict[str, bool | int]:
    """The options that this XLA has: all, or none of them. The folder of kept programs remembers that it has all."""
    import jax

    options: dict[str, bool | int] = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
    folder = kept_folder()
    seen = None if folder is None else folder / f"jaxlib-{version('jaxlib')}-has-{'-'.join(sorted(options))}"
    if seen is not None and seen.exists():
        return options
    try:
        with jax.ensure_compile_time_eval():  # while a program is traced, options would be refused for that reason
            jax.jit(lambda x: x + 1, compiler_options=options)(1.0)
    except (RuntimeError, ValueError):
        return {}
    if seen is not None:
        with suppress(OSError):
            seen.touch()
    return options


def filled_number(num_rows: int, steps: int = 8) -> int:
    """The next of ``steps`` numbers between a power of two and the next.

    Rows filled up to it share their programs with other numbers of rows; they are at most 1 / ``steps`` more.

    Args:
        num_rows: how many there are.
        steps: a power of two.
    """
    return num_rows + -num_rows % max(1, (1 << num_rows.bit_length()) // (2 * steps))


def is_small(x: Any, num_components: int) -> bool:
    """Whether so many memories of data like these are a small problem: compiling then costs more than running."""
    return bool(x.size * num_components <= _SMALL)


def compiled_by_size(
    small: Callable[..., bool], *, often: bool | Callable[..., bool] = False, **options: Any
) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """``jax.jit`` of a function as one of two programs: compiled quickly for small arguments, well for large ones.

    A function so decorated cannot be called by another compiled one.

    Args:
        small: whether the arguments of a call are small.
        often: whether a program of small arguments runs hundreds of times or for seconds, as for
            :func:`compiler_options`; a function is asked about the arguments.
        options: others of ``jax.jit``.
    """
    import jax

    def decorated(function: Callable[_P, _R]) -> Callable[_P, _R]:
        well = jax.jit(function, **options)
        quickly = cache(lambda often: jax.jit(function, compiler_options=compiler_options(often=often), **options))

        @wraps(function)
        def compiled(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            runs_often = often(*args, **kwargs) if callable(often) else often
            program = quickly(runs_often) if small(*args, **kwargs) else well
            result: _R = program(*args, **kwargs)
            return result

        return compiled

    return decorated


def compiled_quickly(**options: Any) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """``jax.jit`` for programs on a few numbers, whatever the data: :func:`compiled_by_size` of small arguments.

    Args:
        options: of ``jax.jit``.
    """
    return compiled_by_size(lambda *_, **__: True, **options)


def compiled_by_work(
    work: Callable[..., tuple[Mapping[str, Any], int]], *, repeated: bool = False, **options: Any
) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """``jax.jit`` of a function that meets data at every draw of a posterior, compiled as well as it is worth.

    Args:
        work: from the arguments of a call to the site values of all draws, and to the number of data.
        repeated: whether one program answers many calls, so that compiling it well pays sooner.
        options: of ``jax.jit``.
    """
    most = _MODERATE // 10 if repeated else _MODERATE

    def pairs(*args: Any, **kwargs: Any) -> int:
        sites, num_data = work(*args, **kwargs)
        return num_data * sum(int(value.size) for value in sites.values())

    return compiled_by_size(
        lambda *args, **kwargs: pairs(*args, **kwargs) <= most,
        often=lambda *args, **kwargs: pairs(*args, **kwargs) > _BRIEF,
        **options,
    )
