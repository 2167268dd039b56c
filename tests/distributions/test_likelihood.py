"""The log likelihood as one number, and its gradient: against NumPyro's mixture and finite differences."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from numpyro.distributions import Distribution

from probam.distributions import likelihood
from probam.distributions.bits import SpinBernoulli
from probam.distributions.counts import MultinomialCounts
from probam.distributions.likelihood import linear_log_likelihood, log_likelihood_of, total_log_sum_exp
from probam.distributions.mixture import MemoryMixture
from probam.distributions.von_mises_fisher import VonMisesFisher

RANDOM = np.random.default_rng(0)
N, D = 37, 3


def _bank(kind: str, num_memories: int) -> tuple[Callable[[jax.Array], Distribution], np.ndarray]:
    """A bank as a function of (K, D) numbers, and data that it can have made."""
    spread = RANDOM.normal(size=(N, D)) * 2
    unit = spread / np.linalg.norm(spread, axis=1, keepdims=True)
    shape = RANDOM.normal(size=(num_memories, D, D)) + 2 * np.eye(D)
    scale = RANDOM.gamma(5.0, 0.2, (num_memories, D))
    return {
        "isotropic": (lambda a: dist.Normal(a, jnp.asarray(1.3)).to_event(1), spread),
        "spherical": (lambda a: dist.Normal(a, scale[:, :1]).to_event(1), spread),
        "diagonal": (lambda a: dist.Normal(a, scale).to_event(1), spread),
        "full": (
            lambda a: dist.MultivariateNormal(a, covariance_matrix=jnp.asarray(shape @ shape.transpose(0, 2, 1))),
            spread,
        ),
        "vmf": (lambda a: VonMisesFisher(a / jnp.linalg.norm(a, axis=1, keepdims=True), 1 + jnp.sum(a**2, 1)), unit),
        "bits": (lambda a: dist.BernoulliLogits(a).to_event(1), (spread > 0).astype(float)),
        "spins": (lambda a: SpinBernoulli(a).to_event(1), np.sign(spread)),
        "counts": (lambda a: MultinomialCounts(jax.nn.softmax(a), jnp.asarray(7.0)), RANDOM.poisson(2.0, (N, D)) + 0.0),
        "dirichlet": (lambda a: dist.Dirichlet(jnp.exp(a)), RANDOM.dirichlet([2.0] * D, N)),
        "laplace": (lambda a: dist.Laplace(a, scale).to_event(1), spread),  # no linear form: densities are broadcast
    }[kind]


@pytest.mark.parametrize(
    ("kind", "num_memories"),
    [
        *((kind, 4) for kind in ("spherical", "full", "vmf", "bits", "spins", "counts", "dirichlet")),
        ("isotropic", 1),
        ("diagonal", 2),
        ("laplace", 5),
    ],
)
def test_value_and_gradient_are_those_of_the_sum_of_log_densities(kind: str, num_memories: int) -> None:
    make, x = _bank(kind, num_memories)
    numbers, logits = RANDOM.normal(size=(num_memories, D)), RANDOM.normal(size=num_memories)
    data = jnp.asarray(x)

    def mixture(a: jax.Array, b: jax.Array) -> MemoryMixture:
        return MemoryMixture(jax.nn.log_softmax(b), make(a))

    def ours(a: jax.Array, b: jax.Array) -> jax.Array:
        other = mixture(jnp.ones_like(a), jnp.zeros_like(b))  # only its kind matters
        return log_likelihood_of(other, data)(mixture(a, b))

    def plain(a: jax.Array, b: jax.Array) -> jax.Array:
        """NumPyro's own density of every memory, broadcast."""
        each = make(a).log_prob(data[:, None, :]) + jax.nn.log_softmax(b)
        return jnp.sum(jax.scipy.special.logsumexp(each, axis=1))

    (value, slopes), (expected, wanted) = jax.jit(
        lambda a, b: [jax.value_and_grad(f, argnums=(0, 1))(a, b) for f in (ours, plain)]
    )(numbers, logits)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    for slope, want in zip(slopes, wanted, strict=True):
        np.testing.assert_allclose(slope, want, rtol=1e-9, atol=1e-10)


def test_blocks_of_rows_give_the_whole_and_the_data_have_a_gradient_too(monkeypatch: pytest.MonkeyPatch) -> None:
    coefficients, features = RANDOM.normal(size=(3, 4)), RANDOM.normal(size=(4, 101))

    def plain(a: jax.Array, phi: jax.Array) -> jax.Array:
        return jnp.sum(jax.scipy.special.logsumexp(a @ phi, axis=0))

    monkeypatch.setattr(likelihood, "_BLOCK", 3 * 16)  # six blocks of 16 rows and 5 rows over
    value, slopes = jax.jit(jax.value_and_grad(linear_log_likelihood, argnums=(0, 1)))(coefficients, features)
    expected, wanted = jax.value_and_grad(plain, argnums=(0, 1))(coefficients, features)
    np.testing.assert_allclose(value, expected, rtol=1e-13)
    for slope, want in zip(slopes, wanted, strict=True):
        np.testing.assert_allclose(slope, want, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("num_memories", [2, 3])
def test_curvature_is_right_even_where_memories_are_alike(num_memories: int) -> None:
    """The Hessian in the coefficients at equal memories, by hand: sum of (diag(r) - r r^T) x phi phi^T, r = 1 / K."""
    features = RANDOM.normal(size=(2, 9))
    alike = jnp.tile(jnp.asarray([0.3, -0.7]), (num_memories, 1))
    hessian = jax.jit(jax.hessian(linear_log_likelihood))(alike, jnp.asarray(features))
    share = np.full(num_memories, 1 / num_memories)
    expected = np.einsum("kj,fg->kfjg", np.diag(share) - np.outer(share, share), features @ features.T)
    np.testing.assert_allclose(hessian, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("num_memories", [2, 3])
def test_impossible_data_give_minus_infinity_and_no_nan(num_memories: int) -> None:
    logits = RANDOM.normal(size=(num_memories, 21)) * 100
    logits[0, 3] = -np.inf  # one memory cannot have made the datum
    value, slope = jax.jit(jax.value_and_grad(total_log_sum_exp))(jnp.asarray(logits))
    np.testing.assert_allclose(value, np.logaddexp.reduce(logits, axis=0).sum(), rtol=1e-13)
    assert slope[0, 3] == 0
    np.testing.assert_allclose(np.sum(slope, axis=0), 1, rtol=1e-13)
    logits[:, 5] = -np.inf  # none can
    value, slope = jax.jit(jax.value_and_grad(total_log_sum_exp))(jnp.asarray(logits))
    assert value == -np.inf
    assert np.isfinite(slope).all()


def test_a_thousand_equal_memories_in_single_precision_overflow_no_product() -> None:
    logits = jnp.zeros((1000, 64), jnp.float32)
    np.testing.assert_allclose(jax.jit(total_log_sum_exp)(logits), 64 * np.log(1000), rtol=1e-6)
