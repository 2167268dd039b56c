"""Test configuration: double precision; compiled programs do not outlive their file."""

from collections.abc import Iterator

import jax
import pytest

jax.config.update("jax_enable_x64", True)


@pytest.fixture(scope="module", autouse=True)
def _forget_compiled_programs() -> Iterator[None]:
    """XLA maps memory for every program it compiles; thousands of them in one process exhaust the system's maps."""
    yield
    jax.clear_caches()
