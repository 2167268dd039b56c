"""The parts of the experiment on Bayesian predictive coding: what is damaged, and which errors are counted."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import pytest
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from probam.energies.clam import Clam
from probam.energies.memory import REAL, Card, Memory
from probam.experiments.bayesian_predictive_coding import damaged_queries, recall_errors
from probam.pytrees import pytree

ROWS = jnp.asarray(np.random.default_rng(0).uniform(size=(30, 64)))


@pytree
@dataclass(frozen=True, eq=False)
class Constant(Memory):
    """A memory that answers the same to everything."""

    answer: Float[ArrayLike, "1 D"]

    card = Card("constant", REAL, "none", "the answer", "one", "here")
    bank = "answer"
    separable = True

    def energy(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch"]:
        return jnp.sum((jnp.asarray(states) - jnp.asarray(self.answer)[0]) ** 2, axis=-1)

    def update(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch D"]:
        return jnp.zeros(jnp.shape(states)) + jnp.asarray(self.answer)[0]


def test_half_of_the_pixels_are_missing_and_the_noise_has_its_deviation() -> None:
    queries = damaged_queries(np.random.default_rng(1), ROWS)
    missing = np.asarray(queries.missing)
    assert abs(missing.mean() - 0.5) < 5 * 0.5 / np.sqrt(missing.size)  # fails once in 1.7 million seeds
    np.testing.assert_array_equal(np.asarray(queries.masked)[~missing], np.asarray(ROWS)[~missing])
    assert np.all(np.asarray(queries.masked)[missing] == 0.5)
    noise = np.asarray(queries.noisy - ROWS)
    assert abs(noise.std() / 0.2 - 1) < 5 / np.sqrt(2 * noise.size)


def test_errors_are_of_the_missing_pixels_and_of_all_pixels() -> None:
    queries = damaged_queries(np.random.default_rng(1), ROWS)
    completion, noise = recall_errors(Constant(np.full((1, 64), 0.25)), queries)
    wrong = (np.asarray(ROWS) - 0.25) ** 2
    assert completion == pytest.approx(wrong[np.asarray(queries.missing)].mean())
    assert noise == pytest.approx(wrong.mean())


def test_a_memory_that_keeps_all_images_makes_no_error() -> None:
    assert max(recall_errors(Clam.store(ROWS), damaged_queries(np.random.default_rng(1), ROWS))) < 1e-3
