"""Test configuration: double precision; programs compile cheaply, stay on disk and leave memory with their file."""

import gc
import os
import threading
from collections.abc import Iterator
from pathlib import Path

# Before JAX is imported, so that the processes that tests start share them. An empty folder is as good as a full one.
COMPILED = {
    "JAX_COMPILATION_CACHE_DIR": str(Path(__file__).parents[1] / ".pytest_cache" / "jax"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}
for name, value in COMPILED.items():
    os.environ.setdefault(name, value)

import jax  # noqa: E402
import pytest  # noqa: E402
from jax._src.lru_cache import LRUCache  # noqa: E402

from tests.annotations import check_annotations, false_annotations  # noqa: E402

check_annotations()  # before the conftest of a folder imports the package

jax.config.update("jax_enable_x64", True)


def _put_whole(cache: LRUCache, key: str, value: bytes) -> None:
    """Keep a compiled program through a temporary name: JAX writes in place, and another worker could read a half."""
    entry = Path(str(cache.path)) / f"{key}-cache"
    if not entry.exists():
        own = entry.with_name(f"{key}.{os.getpid()}.{threading.get_ident()}")  # claims compile in threads
        own.write_bytes(value)
        own.replace(entry)


assert callable(LRUCache.put), "JAX keeps programs in another way now"
LRUCache.put = _put_whole  # type: ignore[method-assign, assignment]

# Quick tests run thousands of programs, most of them once: compiling is what they cost. More than half of it is LLVM's
# optimiser, emitters that set MLIR up anew for every program, and threads that share out one program's kernels. The
# long checks keep XLA's own settings, which users have: their programs run for minutes.
CHEAP = (
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
)


def pytest_configure(config: pytest.Config) -> None:
    """XLA reads its flags when the first program compiles; those of the caller come last and win."""
    flags = os.environ.get("XLA_FLAGS", "")
    if config.option.markexpr == "not slow" and CHEAP not in flags:  # workers inherit them
        os.environ["XLA_FLAGS"] = f"{CHEAP} {flags}".strip()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs a GPU is skipped where JAX finds none."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked and jax.default_backend() != "gpu":
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="JAX finds no GPU; `make gpu` runs this where there is one"))


def pytest_collection_finish() -> None:
    """What was imported stays: walking through it at every collection of garbage would take one part in twenty."""
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def _forget_compiled_programs() -> Iterator[None]:
    """XLA maps memory for every program it compiles; thousands of them in one process exhaust the system's maps."""
    yield
    jax.clear_caches()


@pytest.fixture(autouse=True)
def _annotations_are_true() -> Iterator[None]:
    """No annotation was false (:mod:`tests.annotations`), even if nothing came of it."""
    yield
    found = false_annotations.copy()
    false_annotations.clear()
    assert not found


_ROOT = Path(__file__).parents[1]
_THERE = set(os.listdir(_ROOT))


@pytest.fixture(autouse=True)
def _nothing_is_left_in_the_folder_of_the_project() -> Iterator[None]:
    """A file that one test leaves is what another, in whatever order, finds."""
    yield
    left = {name for name in set(os.listdir(_ROOT)) - _THERE if not name.startswith(".") and name != "out"}
    _THERE.update(left)  # the test that left it fails, not all that follow
    assert not left
