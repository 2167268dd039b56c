"""Properties of every distribution: draws have the shape, the type and the support, and a finite log density."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpyro.distributions import Distribution

from probam.distributions.bits import SpinBernoulli
from probam.distributions.blurred import Noisy
from probam.distributions.counts import MultinomialCounts
from probam.distributions.direction import FreeDirection
from probam.distributions.epanechnikov import Epanechnikov
from probam.distributions.generalized_normal import GeneralizedNormal, RadialLaplace
from probam.distributions.hidden_sequence import HiddenSequence
from probam.distributions.mixture import MemoryMixture
from probam.distributions.stick_breaking import StickBreakingSticks, StickBreakingWeights
from probam.distributions.student_t import EllipticalStudentT
from probam.distributions.uniform import UniformBall, UniformBox
from probam.distributions.von_mises_fisher import VonMisesFisher

FEW = settings(max_examples=6, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])

K, D = 3, 2


class Numbers:
    """Parameters of K memories in D dimensions, around 10^size."""

    def __init__(self, seed: int, size: float, dtype: str) -> None:
        self.rng, self.size, self.dtype = np.random.default_rng(seed), 10.0**size, dtype

    def real(self, *shape: int) -> jax.Array:
        return jnp.asarray(self.size * self.rng.normal(size=shape), self.dtype)

    def positive(self, *shape: int) -> jax.Array:
        return jnp.asarray(self.size * self.rng.lognormal(size=shape), self.dtype)

    def near_one(self, *shape: int) -> jax.Array:
        return jnp.asarray(self.rng.lognormal(size=shape), self.dtype)

    def shares(self, *shape: int) -> jax.Array:
        return jnp.asarray(self.rng.dirichlet(np.ones(shape[-1]), shape[:-1]), self.dtype)

    def directions(self) -> jax.Array:
        x = self.rng.normal(size=(K, D))
        return jnp.asarray(x / np.linalg.norm(x, axis=1, keepdims=True), self.dtype)

    def bank(self) -> Distribution:
        return dist.Normal(self.real(K, D), self.positive(K, D)).to_event(1)


LAWS: dict[str, Callable[[Numbers], Distribution]] = {
    "spins": lambda of: SpinBernoulli(of.real(K)),
    "with noise": lambda of: Noisy(dist.Laplace(of.real(K), of.positive(K)), of.positive()),
    "counts": lambda of: MultinomialCounts(of.shares(K, D), 3 * of.near_one(K)),
    "free direction": lambda of: FreeDirection(D),
    "Epanechnikov": lambda of: Epanechnikov(of.real(K, D), of.positive(K)),
    "generalised normal": lambda of: GeneralizedNormal(of.real(K), 1 / of.positive(K), 3.0),
    "radial Laplace": lambda of: RadialLaplace(of.real(K, D), 1 / of.positive(K)),
    "hidden sequence": lambda of: HiddenSequence(of.bank(), of.shares(K), of.shares(K, K), 4),
    "mixture": lambda of: MemoryMixture(jnp.log(of.shares(K)), of.bank()),
    "sticks": lambda of: StickBreakingSticks(of.positive(K), jnp.zeros((), of.dtype), 5),
    "weights": lambda of: StickBreakingWeights(of.near_one(K), jnp.asarray(0.3, of.dtype), 5),
    "Student-t": lambda of: EllipticalStudentT(of.near_one(K), of.real(K, D), 1 / of.positive(K, D)),
    "box": lambda of: UniformBox(of.real(K, D), of.positive(K, D)),
    "ball": lambda of: UniformBall(of.real(K, D), of.positive(K)),
    "von Mises-Fisher": lambda of: VonMisesFisher(of.directions(), of.positive(K)),
}
BOUNDED = ("Epanechnikov", "box", "ball")
"""Their density is zero outside; the last bit of a draw may lie there."""


@pytest.mark.parametrize("name", LAWS)
@FEW
@given(seed=st.integers(0, 2**32 - 1), size=st.floats(-4, 4), dtype=st.sampled_from(["float32", "float64"]))
def test_draws_have_the_shape_the_type_the_support_and_a_finite_log_density(
    name: str, seed: int, size: float, dtype: str
) -> None:
    law = LAWS[name](Numbers(seed, size, dtype))
    draws = jnp.asarray(law.sample(jax.random.key(seed), (7,))).astype(dtype)  # NumPyro's laws draw in the default type
    assert draws.shape == (7, *law.batch_shape, *law.event_shape)
    log_density = np.asarray(law.log_prob(draws))
    assert log_density.shape == (7, *law.batch_shape)
    if name != "free direction":  # it has no parameters, and so the default type
        assert str(log_density.dtype) == dtype
    assert law.support is not None
    assert np.asarray(law.support(draws)).all()
    if name in BOUNDED:
        inside = np.isfinite(log_density)
        assert inside.mean() > 0.8
        assert (log_density[~inside] == -np.inf).all()
    else:
        assert np.isfinite(log_density).all()


@pytest.mark.parametrize("name", LAWS)
def test_single_precision_has_the_log_density_of_double(name: str) -> None:
    of = {dtype: LAWS[name](Numbers(1, 0.0, dtype)) for dtype in ("float32", "float64")}
    draws = jnp.asarray(of["float64"].sample(jax.random.key(0), (20,)))
    wide = np.asarray(of["float64"].log_prob(draws))
    narrow = np.asarray(of["float32"].log_prob(draws.astype("float32")))
    inside = np.isfinite(wide) & np.isfinite(narrow)
    assert inside.mean() > 0.8
    np.testing.assert_allclose(narrow[inside], wide[inside], rtol=2e-4, atol=2e-4)
