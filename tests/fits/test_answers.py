"""Answers about many rows: the same whatever the blocks, against SciPy's densities and plain sums."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import norm

import probam
import probam.fits.posterior as posterior
import probam.placement as placement
from probam.errors import InputError
from probam.fits.answers import _in_blocks, begin
from probam.models.gaussian import Gaussian
from probam.models.mixture import mixture
from probam.models.weights import Dirichlet

DRAWS, MEMORIES, FEATURES = 3, 4, 2
RANDOM = np.random.default_rng(5)
SITES = {
    "loc": RANDOM.normal(size=(DRAWS, MEMORIES, FEATURES)),
    "precision": RANDOM.gamma(3, size=(DRAWS, MEMORIES, FEATURES)),
    "proportions": RANDOM.dirichlet(np.ones(MEMORIES), DRAWS),
}
PERMUTATIONS = np.stack([RANDOM.permutation(MEMORIES) for _ in range(DRAWS)])


def _expected(x: np.ndarray, allowed: np.ndarray | bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Log predictive density, and relabelled responsibilities averaged over the draws."""
    density, relabelled = _of_each_draw(x, allowed)
    return logsumexp(density, axis=0) - np.log(DRAWS), relabelled.mean(axis=0)


def _of_each_draw(x: np.ndarray, allowed: np.ndarray | bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Log density (S, N) and relabelled responsibilities (S, N, K)."""
    scale = SITES["precision"][:, None] ** -0.5
    density = np.asarray(norm.logpdf(x[None, :, None], SITES["loc"][:, None], scale))
    logs = density.sum(-1) + np.log(SITES["proportions"])[:, None]
    logs = np.where(allowed, logs, -np.inf)
    each = logsumexp(logs, axis=-1)  # (S, N)
    shares = np.exp(logs - each[..., None])
    relabelled = np.stack([own[:, order] for own, order in zip(shares, PERMUTATIONS, strict=True)])
    return each, relabelled


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("num_rows", [1, 1000, 1024, 1031])
def test_reading_by_blocks_of_rows_gives_densities_labels_and_pairs(
    num_rows: int, known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "_BLOCK_BYTES", 0)  # blocks of 256 rows
    rng = np.random.default_rng(num_rows)
    x = rng.normal(size=(num_rows, FEATURES))
    allowed = np.eye(MEMORIES, dtype=bool)[rng.integers(0, MEMORIES, num_rows)] if known else None
    model = mixture(np.eye(FEATURES), family=Gaussian("diagonal"), weights=Dirichlet(), num_components=MEMORIES)
    sites = jax.tree.map(jnp.asarray, SITES)
    pairs = rng.integers(0, num_rows, (5, 2))
    found = posterior.read(model, sites, jax.random.key(0), x, pairs, allowed, most_probable=True)
    log_density, relabelled = _of_each_draw(x, True if allowed is None else allowed)
    shares = np.stack([own[:, np.argsort(order)] for own, order in zip(relabelled, PERMUTATIONS, strict=True)])
    np.testing.assert_allclose(found.log_lik, log_density, rtol=1e-10)
    np.testing.assert_array_equal(found.labels, shares.argmax(axis=-1))
    together = np.sum(shares[:, pairs[:, 0]] * shares[:, pairs[:, 1]], axis=-1)
    np.testing.assert_allclose(found.together, together, rtol=1e-8, atol=1e-12)
    drawn = posterior.read(model, sites, jax.random.key(0), x, pairs, allowed).labels
    assert np.all(np.take_along_axis(shares, drawn[..., None], axis=-1) > 0)
    if not known and num_rows > 1:
        expected, variance = shares.sum(axis=(0, 1)), (shares * (1 - shares)).sum(axis=(0, 1))
        counts = np.bincount(drawn.ravel(), minlength=MEMORIES)
        assert np.all(np.abs(counts - expected) < 5 * np.sqrt(variance))  # 12 tests: fails once in 100,000


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("num_rows", [1, 1000, 1024, 1031])
def test_blocks_of_rows_give_the_predictive_density_and_the_mean_responsibilities(
    num_rows: int, known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "_BLOCK_BYTES", 0)  # blocks of 256 rows
    rng = np.random.default_rng(num_rows)
    x = rng.normal(size=(num_rows, FEATURES))
    allowed = np.eye(MEMORIES, dtype=bool)[rng.integers(0, MEMORIES, num_rows)] | (
        rng.random((num_rows, MEMORIES)) < 0.5
    )
    model = mixture(np.eye(FEATURES), family=Gaussian("diagonal"), weights=Dirichlet(), num_components=MEMORIES)
    sites = jax.tree.map(jnp.asarray, SITES)
    told: dict[str, Any] = {"allowed": allowed} if known else {}
    found = begin(model, sites, PERMUTATIONS, x, each=True, **told)()
    density, shares = _expected(x, **told)
    np.testing.assert_allclose(found.log_density, density, rtol=0, atol=1e-11)
    np.testing.assert_allclose(np.asarray(found.responsibilities), shares, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(found.label, shares.argmax(axis=1))
    np.testing.assert_allclose(found.confidence, shares.max(axis=1), rtol=0, atol=1e-12)
    without = begin(model, sites, PERMUTATIONS, x, each=False, **told)()
    assert without.responsibilities is None
    np.testing.assert_array_equal(without.log_density, found.log_density)


@pytest.mark.parametrize("num_rows", [1, 1031])
@pytest.mark.parametrize("top", [1, 3, MEMORIES])
def test_the_leading_memories_are_the_largest_mean_responsibilities(
    num_rows: int, top: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "_BLOCK_BYTES", 0)  # blocks of 256 rows
    x = np.random.default_rng(num_rows).normal(size=(num_rows, FEATURES))
    model = mixture(np.eye(FEATURES), family=Gaussian("diagonal"), weights=Dirichlet(), num_components=MEMORIES)
    found = begin(model, jax.tree.map(jnp.asarray, SITES), PERMUTATIONS, x, each=False, top=top)()
    shares = _expected(x)[1]
    order = np.argsort(-shares, axis=1)[:, :top]
    assert found.responsibilities is None
    assert found.leading is not None
    np.testing.assert_array_equal(found.leading.memory, order)
    np.testing.assert_array_equal(found.leading.memory[:, 0], found.label)
    np.testing.assert_allclose(found.leading.probability, np.take_along_axis(shares, order, 1), rtol=0, atol=1e-12)


def test_leading_memories_of_equal_probability_are_those_of_lower_number() -> None:
    model = mixture(np.eye(FEATURES), family=Gaussian("diagonal"), weights=Dirichlet(), num_components=MEMORIES)
    same = {"loc": np.ones((1, MEMORIES, FEATURES)), "precision": np.ones((1, MEMORIES, FEATURES))}
    sites = jax.tree.map(jnp.asarray, same | {"proportions": np.full((1, MEMORIES), 1 / MEMORIES)})
    found = begin(model, sites, np.arange(MEMORIES)[None], np.zeros((5, FEATURES)), each=False, top=3)()
    assert found.leading is not None
    np.testing.assert_array_equal(found.leading.memory, np.tile([0, 1, 2], (5, 1)))
    np.testing.assert_allclose(found.leading.probability, 0.25, rtol=1e-12)


def test_leading_memories_take_no_room_for_rows_times_memories() -> None:
    """20,000 rows and 3,000 memories: 480 MB in double precision; what the program has at a time is asked of XLA."""
    num_rows, num_memories = 20_000, 3_000
    rng = np.random.default_rng(0)
    model = mixture(np.eye(FEATURES), family=Gaussian("diagonal"), weights=Dirichlet(), num_components=num_memories)
    sites = {
        "loc": rng.normal(size=(1, num_memories, FEATURES)),
        "precision": np.ones((1, num_memories, FEATURES)),
        "proportions": np.full((1, num_memories), 1 / num_memories),
    }
    uncompiled: Any = _in_blocks
    program = jax.jit(partial(uncompiled.__wrapped__, each=False, spread=False, top=5))
    x = rng.normal(size=(num_rows, FEATURES))
    used: Any = program.lower(model, sites, np.arange(num_memories)[None], x, None).compile().memory_analysis()
    assert used.temp_size_in_bytes + used.output_size_in_bytes < num_rows * num_memories * 8 / 10


@pytest.mark.parametrize("num_rows", [3, 1031])
def test_the_spread_of_the_confidence_is_that_of_the_label_s_responsibility_over_the_draws(
    num_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "_BLOCK_BYTES", 0)  # blocks of 256 rows
    x = np.random.default_rng(num_rows).normal(size=(num_rows, FEATURES))
    model = mixture(np.eye(FEATURES), family=Gaussian("diagonal"), weights=Dirichlet(), num_components=MEMORIES)
    found = begin(model, jax.tree.map(jnp.asarray, SITES), PERMUTATIONS, x, each=False, spread=True)()
    shares = _of_each_draw(x)[1]
    own = shares[:, np.arange(num_rows), shares.mean(axis=0).argmax(axis=1)]
    np.testing.assert_allclose(np.asarray(found.confidence_sd), own.std(axis=0), rtol=0, atol=1e-12)
    assert np.asarray(found.confidence_sd).max() > 0.1


def test_rows_shared_out_over_devices_are_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "_WORTH_SPREADING", 1)
    monkeypatch.setattr(jax, "devices", lambda *_: [jax.local_devices()[0]] * 3)
    x = np.random.default_rng(0).normal(size=(700, FEATURES))
    model = mixture(x, family=Gaussian("diagonal"), weights=Dirichlet(), num_components=4)
    found = begin(model, jax.tree.map(jnp.asarray, SITES), jnp.asarray(PERMUTATIONS), x, each=True)()
    np.testing.assert_allclose(found.log_density, _expected(x)[0], rtol=0, atol=1e-11)
    np.testing.assert_allclose(np.asarray(found.responsibilities), _expected(x)[1], rtol=0, atol=1e-12)


def test_a_far_row_among_near_ones_has_a_memory_and_no_density() -> None:
    x = np.random.default_rng(0).normal(size=(40, 2))
    fit = probam.fit(x, covariance="isotropic", weights="dirichlet", components=2, engine="em", restarts=1)
    rows = np.concatenate([x, [[1e160, 0.0]]])
    answer = fit.predict(rows)
    assert answer["log_density"].values[-1] == -np.inf
    np.testing.assert_allclose(answer["responsibilities"].sum("memory"), 1, rtol=1e-12)
    np.testing.assert_allclose(answer["log_density"].values[:-1], fit.predict(x)["log_density"], rtol=0, atol=1e-12)


def test_a_row_that_no_memory_can_have_is_refused_and_has_density_zero() -> None:
    x = np.random.default_rng(0).uniform(size=(40, 1))
    fit = probam.fit(x, family="uniform", weights="dirichlet", components=2, engine="em", restarts=1)
    assert fit.log_prob([[99.0]]).tolist() == [-np.inf]
    with pytest.raises(InputError, match="1 of 2 rows have density 0 under every memory, the first is row 1"):
        fit.predict([[float(x[0, 0])], [99.0]], probabilities=False)
