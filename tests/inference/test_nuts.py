"""NUTS on the marginal density, against exact posteriors."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from arviz_stats import ess  # type: ignore[attr-defined]
from scipy import integrate, stats

from probam.errors import InputError
from probam.inference.nuts import chains
from probam.inference.nuts import engine as nuts
from probam.models.gaussian import Gaussian
from probam.models.mixture import mixture
from probam.models.weights import StickBreaking, weight_prior
from tests.inference.enumeration import log_truncated, posterior
from tests.inference.posteriordb import SHARED, agree, gauss_mix
from tests.models.known_precision import KnownPrecision


def test_one_memory_has_the_posterior_that_quadrature_gives() -> None:
    """loc and precision of one Gaussian in one dimension, semi-conjugate priors: a two-dimensional integral."""
    x = np.random.default_rng(0).normal(1.5, 2.0, (25, 1))
    model = mixture(x, family=Gaussian("diagonal"), weights=weight_prior("uniform"), num_components=1)
    result = nuts.run(jax.random.key(1), model, jnp.asarray(x), num_warmup=400, num_draws=1000, num_chains=2)
    loc_prior, gamma = (model.prior[site].base_dist for site in ("loc", "precision"))  # type: ignore[attr-defined]
    m, s = float(loc_prior.loc[0]), float(loc_prior.scale[0])
    a, b = float(gamma.concentration[0]), float(gamma.rate[0])

    def density(tau: float, mu: float) -> float:
        log_likelihood = stats.norm.logpdf(x, mu, tau**-0.5).sum() - stats.norm.logpdf(x, 1.5, 2).sum()
        return float(np.exp(log_likelihood) * stats.norm.pdf(mu, m, s) * stats.gamma.pdf(tau, a, scale=1 / b))

    def moment(f: object) -> float:
        return integrate.dblquad(lambda t, u: f(t, u) * density(t, u), -2, 5, 1e-6, 1.5, epsabs=1e-9)[0]  # type: ignore[operator]

    total = moment(lambda t, u: 1.0)
    for name, value in (("loc", lambda t, u: u), ("precision", lambda t, u: t)):
        mean = moment(value) / total
        draws = result.sites[name][:, :, 0, 0]
        error = draws.std() / np.sqrt(ess(draws))
        assert abs(draws.mean() - mean) < 5 * error, name  # 2 tests: fails once in a million


def test_number_of_memories_is_that_of_the_enumerated_truncated_model() -> None:
    """Every partition of 8 data under stick-breaking truncated at 4, likelihood variance 1, base N(0, 9)."""
    x = np.array([-4.1, -3.6, -0.2, 0.3, 0.9, 3.9, 4.4, 5.0])
    variance, base, truncation = 1.0, 9.0, 4
    _, number, together = posterior(x, lambda sizes: log_truncated(sizes, 1.0, 0.0, truncation), variance, base)
    model = mixture(
        x[:, None],
        family=KnownPrecision(variance, base),
        weights=StickBreaking(1.0),
        num_components=truncation,
    )
    result = nuts.run(jax.random.key(2), model, jnp.asarray(x[:, None]), num_warmup=500, num_draws=2500, num_chains=4)
    resp = jax.jit(jax.vmap(jax.vmap(lambda p: model.mixture(p).responsibilities(jnp.asarray(x[:, None])))))(
        {name: jnp.asarray(result.sites[name]) for name in ("loc", "sticks")}
    )
    resp = np.asarray(resp)  # (C, S, N, K)
    empty = np.prod(1 - resp, axis=2)  # probability that a memory holds none, given the draw
    expected = (1 - empty).sum(-1)
    error = expected.std() / np.sqrt(ess(expected))
    assert abs(expected.mean() - number @ np.arange(9)) < 5 * error
    pairs = np.einsum("csik,csjk->csij", resp, resp)
    for i, j in ((0, 1), (2, 4), (3, 5), (6, 7), (4, 6)):
        chain = pairs[:, :, i, j]
        assert abs(chain.mean() - together[i, j]) < 5 * chain.std() / np.sqrt(ess(chain)) + 1e-6, (i, j)


@pytest.mark.skipif(not SHARED.exists(), reason="the shared data folder is not here")
def test_posteriordb_low_dim_gauss_mix() -> None:
    """The draws are sorted: without an order chains number the memories as they like."""
    model, y = gauss_mix()
    result = nuts.run(jax.random.key(3), model, jnp.asarray(y), num_warmup=500, num_draws=1000, num_chains=4)
    assert not result.stats["diverging"].any()
    order = np.argsort(result.sites["loc"][..., 0], axis=-1)
    loc, scale, weights = (
        np.take_along_axis(values, order, -1)
        for values in (result.sites["loc"][..., 0], result.sites["scale"][..., 0], result.sites["weights"])
    )
    agree(loc, scale, weights[..., 0])


def test_the_same_key_gives_the_same_bits_and_options_are_checked() -> None:
    x = np.random.default_rng(0).normal(0, 1, (12, 2))
    model = mixture(x, family=Gaussian("isotropic"), weights=weight_prior("dirichlet"), num_components=2)
    runs = [
        nuts.run(jax.random.key(4), model, jnp.asarray(x), num_warmup=30, num_draws=20, num_chains=2) for _ in range(2)
    ]
    np.testing.assert_array_equal(runs[0].sites["loc"], runs[1].sites["loc"])
    assert runs[0].sites["loc"].shape == (2, 20, 2, 2)
    assert set(runs[0].stats) >= {"lp", "energy", "diverging", "n_steps", "tree_depth", "acceptance_rate", "step_size"}
    with pytest.raises(InputError, match="num_draws: expected at least 1; got 0"):
        nuts.run(jax.random.key(4), model, jnp.asarray(x), num_draws=0)
    with pytest.raises(InputError, match="target_accept: expected a number between 0 and 1"):
        nuts.run(jax.random.key(4), model, jnp.asarray(x), target_accept=1.5)


def test_a_chunk_of_steps_lowers_for_cuda() -> None:
    x = jnp.asarray(np.random.default_rng(0).normal(0, 1, (12, 2)))
    model = mixture(np.asarray(x), family=Gaussian("isotropic"), weights=weight_prior("dirichlet"), num_components=2)
    settings, chunk = chains.Settings(30, 0.8, False, 10), chains.Chunk(5, 1)
    states = chains.states_like(jax.random.key(0), model, x, 2, settings)
    advance = jax.jit(inspect.unwrap(chains.advance), static_argnames=("settings", "chunk"))
    exported = jax.export.export(advance, platforms=("cuda",))(
        model, x, states, jnp.asarray(5), settings=settings, chunk=chunk
    )
    assert exported.platforms == ("cuda",)
