"""Variational inference, against a posterior that its guide can represent exactly."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpyro.infer import SVI, Trace_ELBO
from scipy import stats

from probam.errors import InputError
from probam.inference import svi
from probam.inference.coordinates import Coordinates
from probam.models.gaussian import Gaussian
from probam.models.mixture import mixture
from probam.models.weights import weight_prior
from tests.families.known_precision import KnownPrecision
from tests.inference.enumeration import log_truncated, posterior


def test_a_conjugate_posterior_is_found_and_the_bound_touches_the_evidence() -> None:
    """One memory of known variance: the posterior of its location is Gaussian, so the best guide is exact."""
    x = np.random.default_rng(0).normal(2.0, 1.0, (40, 2))
    variance, base = 1.0, 4.0
    model = mixture(x, family=KnownPrecision(variance, base), weights=weight_prior("uniform"), num_components=1)
    result = svi.run(
        jax.random.key(0), model, jnp.asarray(x), num_steps=3000, num_draws=2000, restarts=2, num_particles=5
    )
    precision = len(x) / variance + 1 / base
    mean, sd = x.sum(0) / variance / precision, precision**-0.5
    draws = result.sites["loc"][0, :, 0]
    np.testing.assert_allclose(draws.mean(0), mean, atol=0.1 * sd)
    np.testing.assert_allclose(draws.std(0), sd, rtol=0.1)
    evidence = sum(
        stats.multivariate_normal.logpdf(x[:, j], np.zeros(len(x)), variance * np.eye(len(x)) + base) for j in range(2)
    )
    assert result.objective is not None
    bound = result.objective[:, -1].max()
    assert bound <= evidence + 0.05  # 50-particle estimate of a bound that is tight
    assert bound > evidence - 0.1


def test_the_bound_never_exceeds_the_exact_evidence_of_a_mixture() -> None:
    x = np.array([-4.1, -3.6, -0.2, 0.3, 0.9, 3.9, 4.4, 5.0])
    evidence, _, _ = posterior(x, lambda sizes: log_truncated(sizes, 1.0, 0.0, 3), 1.0, 9.0)
    model = mixture(
        x[:, None], family=KnownPrecision(1.0, 9.0), weights=weight_prior("dp", alpha=1.0), num_components=3
    )
    result = svi.run(jax.random.key(0), model, jnp.asarray(x[:, None]), num_steps=2000, num_draws=10, restarts=3)
    assert result.objective is not None
    finals = result.objective[:, -1]
    assert np.all(finals < evidence)
    assert finals.max() > evidence - 3  # log 3! of it is the label symmetry that one mode cannot cover


@pytest.mark.slow
def test_minibatches_find_the_same_optimum() -> None:
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.normal(-3, 1, (600, 2)), rng.normal(3, 0.5, (400, 2))])
    model = mixture(x, family=Gaussian("diagonal"), weights=weight_prior("dirichlet"), num_components=2)
    whole, parts = (
        svi.run(jax.random.key(0), model, jnp.asarray(x), num_steps=1500, num_draws=200, restarts=1, batch_size=b)
        for b in (1000, 100)
    )
    for result in (whole, parts):
        weights = np.sort(result.sites["weights"][0].mean(0))
        np.testing.assert_allclose(weights, [0.4, 0.6], atol=0.03)
    assert whole.objective is not None
    assert parts.objective is not None
    assert abs(whole.objective[0, -1] - parts.objective[0, -1]) < 0.01 * len(x)  # nats per datum


def test_each_guide_starts_where_it_is_put() -> None:
    """The order of the guide's flat vector is that of Coordinates.flatten, for every shape of site."""
    x = np.random.default_rng(0).normal(0, 1, (12, 3))
    model = mixture(x, family=Gaussian("full"), weights=weight_prior("pyp"), num_components=4)
    coordinates = Coordinates(model)
    noise = np.random.default_rng(1)
    free = {name: jnp.asarray(noise.normal(0, 0.3, value.shape)) for name, value in coordinates.zeros.items()}
    law = svi.GUIDES["mean_field"](model)
    engine = SVI(model, law, optax.adam(0.1), Trace_ELBO())
    state = engine.init(jax.random.key(0), jnp.asarray(x))
    median = law.median(engine.get_params(state) | {f"{law.prefix}_loc": coordinates.flatten(free)})
    for name, value in coordinates.constrain(free).items():
        np.testing.assert_allclose(median[name], value, rtol=1e-6)


def test_bad_options_are_named() -> None:
    x = np.random.default_rng(0).normal(0, 1, (12, 2))
    model = mixture(x, family=Gaussian("isotropic"), weights=weight_prior("dirichlet"), num_components=2)
    with pytest.raises(InputError, match="guide: expected one of mean_field, low_rank, full; got 'flow'"):
        svi.run(jax.random.key(0), model, jnp.asarray(x), guide="flow")
    with pytest.raises(InputError, match="batch_size: expected 1 to 12 rows; got 13"):
        svi.run(jax.random.key(0), model, jnp.asarray(x), batch_size=13)
