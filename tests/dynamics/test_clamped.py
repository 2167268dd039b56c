"""Clamped descent ends where the slice of the energy is flat, and moves nothing that was observed."""

from functools import partial
from typing import Any

import jax
import numpy as np
import pytest

from probam.dynamics.clamped import complete
from probam.energies import clam, hypercube, quadratic
from probam.errors import InputError

RNG = np.random.default_rng(3)
MEMORIES, WEIGHTS = RNG.normal(size=(5, 4)), RNG.dirichlet(np.ones(5))
X = RNG.normal(size=(7, 4))
MISSING = RNG.random((7, 4)) < 0.5


def test_the_end_of_clamped_recall_is_self_consistent() -> None:
    beta = 1.1
    bank: dict[str, Any] = {"memories": MEMORIES, "beta": beta, "weights": WEIGHTS}
    ended = complete(partial(clam.energy, **bank), X, MISSING, update=partial(clam.update, **bank))
    assert np.asarray(ended.converged).all()
    v = np.asarray(ended.states)
    np.testing.assert_array_equal(v[~MISSING], X[~MISSING])
    logits = np.log(WEIGHTS) - beta * ((v[:, None] - MEMORIES) ** 2).sum(axis=-1)
    share = np.exp(logits - logits.max(axis=1, keepdims=True))
    share /= share.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(v[MISSING], (share @ MEMORIES)[MISSING], rtol=1e-10)
    by_slope = complete(partial(clam.energy, **bank), v + np.where(MISSING, 1e-3, 0), MISSING)
    np.testing.assert_allclose(by_slope.states, v, atol=1e-6)


def test_in_one_correlated_well_descent_ends_at_the_regression() -> None:
    root = RNG.normal(size=(4, 4))
    precision = root @ root.T + np.eye(4)
    energy = partial(quadratic.energy, memories=MEMORIES[:1], stiffness=precision[None] / 2)
    ended = np.asarray(complete(energy, np.where(MISSING, 0.3, X), MISSING).states)
    for row, missing, end in zip(X, MISSING, ended, strict=True):
        inner, across = precision[np.ix_(missing, missing)], precision[np.ix_(missing, ~missing)]
        expected = MEMORIES[0, missing] - np.linalg.solve(inner, across @ (row - MEMORIES[0])[~missing])
        np.testing.assert_allclose(end[missing], expected, atol=1e-6)
        np.testing.assert_array_equal(end[~missing], row[~missing])


def test_bits_are_completed_by_bits_and_nothing_goes_uphill() -> None:
    fields = 3 * RNG.normal(size=(4, 6))
    x = RNG.integers(0, 2, (8, 6)).astype(float)
    missing = RNG.random((8, 6)) < 0.5
    energy, update = partial(hypercube.energy, fields=fields), partial(hypercube.update, fields=fields)
    start = np.where(missing, 0.5, x)
    ended = complete(energy, start, missing, update=update)
    assert set(np.unique(ended.states)) == {0.0, 1.0}
    assert (np.asarray(ended.energy) <= np.asarray(energy(start)) + 1e-12).all()
    np.testing.assert_array_equal(np.asarray(ended.states)[~missing], x[~missing])


def test_completion_compiles_and_refuses_what_it_cannot_use() -> None:
    energy = partial(clam.energy, memories=MEMORIES, beta=2.0)
    inside = jax.jit(lambda x: complete(energy, x, MISSING).states)(X)
    np.testing.assert_array_equal(np.asarray(inside)[~MISSING], X[~MISSING])
    with pytest.raises(InputError, match="missing: expected a mask of the shape of the queries"):
        complete(energy, X, MISSING[:, :3])
    with pytest.raises(InputError, match="queries: expected finite"):
        complete(energy, np.where(MISSING, np.nan, X), MISSING)
