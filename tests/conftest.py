"""Test configuration: double precision; compiled programs are kept on disk and do not outlive their file in memory."""

import os
from collections.abc import Iterator
from pathlib import Path

# Before JAX is imported, so that the processes that tests start share them. An empty folder is as good as a full one;
# each worker has its own, because JAX does not write entries atomically.
COMPILED = {
    "JAX_COMPILATION_CACHE_DIR": str(
        Path(__file__).parents[1] / ".pytest_cache" / "jax" / os.environ.get("PYTEST_XDIST_WORKER", "alone")
    ),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}
for name, value in COMPILED.items():
    os.environ.setdefault(name, value)

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_enable_x64", True)


@pytest.fixture(scope="module", autouse=True)
def _forget_compiled_programs() -> Iterator[None]:
    """XLA maps memory for every program it compiles; thousands of them in one process exhaust the system's maps."""
    yield
    jax.clear_caches()
