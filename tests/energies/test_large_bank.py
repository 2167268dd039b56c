"""The blocked step is the plain one, whatever the blocks, the devices and the weights."""

import jax
import numpy as np
import pytest

from probam.energies.clam import energy, update
from probam.energies.large_bank import step
from probam.errors import InputError

RANDOM = np.random.default_rng(3)
MEMORIES = RANDOM.normal(size=(11, 3)) + 40.0
QUERIES = RANDOM.normal(size=(7, 3)) * 2 + 40.0
WEIGHTS = np.r_[np.zeros(4), RANDOM.uniform(0.1, 3, 7)]


@pytest.mark.parametrize("block_size", [4, 5, 100])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_blocks_do_not_change_the_step_or_the_energy(block_size: int, weights: np.ndarray | None) -> None:
    result = step(QUERIES, MEMORIES, 0.8, weights, block_size=block_size)
    np.testing.assert_allclose(result.update, update(QUERIES, MEMORIES, 0.8, weights), rtol=1e-13)
    np.testing.assert_allclose(result.energy, energy(QUERIES, MEMORIES, 0.8, weights), rtol=1e-12, atol=1e-12)


def test_far_queries_and_large_beta_meet_no_overflow() -> None:
    far = np.array([[1e4, 0.0, 0.0], [-1e4, 3e3, 0.0]])
    result = step(far, MEMORIES, 50.0, block_size=4)
    closest = np.argmin(np.sum((far[:, None] - MEMORIES) ** 2, axis=-1), axis=-1)
    np.testing.assert_allclose(result.update, MEMORIES[closest], rtol=1e-12)
    np.testing.assert_allclose(result.energy, energy(far, MEMORIES, 50.0), rtol=1e-12)


def test_single_precision_stays_single_and_gradients_flow() -> None:
    result = step(QUERIES.astype("float32"), MEMORIES.astype("float32"), 0.8)
    assert result.update.dtype == result.energy.dtype == np.float32
    np.testing.assert_allclose(result.update, update(QUERIES, MEMORIES, 0.8), rtol=1e-5)
    slope = jax.jit(jax.grad(lambda v: step(v, MEMORIES, 0.8, block_size=4).energy.sum()))(QUERIES)
    np.testing.assert_allclose(slope, 2 * (QUERIES - update(QUERIES, MEMORIES, 0.8)), rtol=1e-9)


def test_shapes_are_checked() -> None:
    with pytest.raises(InputError, match="query: expected shape"):
        step(QUERIES[:, :2], MEMORIES, 1.0)
