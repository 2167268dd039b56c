r"""The strength and the discount of a stream's process, learned while its data come.

Given the partition that the stream has come to, alpha and d have the posterior

.. math:: p(\alpha, d \mid n_1, \ldots, n_K) \propto p(\alpha)\, p(d)\,
    \frac{\prod_{i=1}^{K-1}(\alpha + i d)}{(\alpha + 1)_{n-1}} \prod_k (1 - d)_{n_k - 1}

(the EPPF of CLAIMS A19). After every so many data one draw is taken that leaves it invariant: for a Dirichlet process
with a Gamma prior the auxiliary variable of Escobar and West (1995), which looks at n and K alone; otherwise a slice
update of log alpha and one of the log odds of d. What is random is a function of the key and n alone.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln
from jaxtyping import Array, Bool, Float

from probam.errors import InputError
from probam.numerics.log_gamma import log_gamma_ratio
from probam.numerics.slice_sampling import slice_update
from probam.pytrees import pytree

__all__ = ["Hyper", "Learning", "check_learning", "draw", "draw_prior", "escobar_west"]

_LEAST = 1e-10
"""Draws of alpha are no smaller, so that a new memory stays possible in single precision."""


class Hyper(NamedTuple):
    """Parameters of the process as they stand."""

    alpha: Float[Array, ""]
    discount: Float[Array, ""]


@pytree
@dataclass(frozen=True)
class Learning:
    """Priors: alpha ~ Gamma(shape, rate), d ~ Beta(a, b); and after how many data each draw is taken."""

    alpha_prior: Float[Array, " 2"]
    discount_prior: Float[Array, " 2"] | None = None
    every: int = field(default=100, metadata={"static": True})
    dirichlet: bool = field(default=True, metadata={"static": True})
    """The discount is zero and stays so."""


def check_learning(alpha_prior: tuple[float, float], discount_prior: tuple[float, float] | None, every: int) -> None:
    """Raise :class:`probam.errors.InputError` for invalid priors or intervals."""
    for name, prior in (("learn_alpha", alpha_prior), ("learn_discount", discount_prior)):
        if prior is not None and (len(prior) != 2 or not all(0 < value < np.inf for value in prior)):
            law = "Gamma(shape, rate)" if name == "learn_alpha" else "Beta(a, b)"
            raise InputError(f"{name}: expected the two positive numbers of a {law} prior, or True; got {prior}")
    if every < 1:
        raise InputError(f"learn_every: expected a number of data of at least 1; got {every}")


def escobar_west(
    key: jax.Array, alpha: Float[Array, ""], prior: Float[Array, " 2"], num_data: jax.Array, num_memories: jax.Array
) -> Float[Array, ""]:
    r"""alpha given n and K of a Dirichlet process, one step of a Gibbs sampler.

    :math:`\eta \sim {\rm Beta}(\alpha + 1, n)`, then alpha from Gamma(a + K, b - log eta) or Gamma(a + K - 1, ...),
    at odds (a + K - 1) to n (b - log eta).
    """
    key_eta, key_part, key_alpha = jax.random.split(key, 3)
    shape, rate = prior
    log_eta = jnp.log(jax.random.beta(key_eta, alpha + 1, num_data, dtype=alpha.dtype))
    rate = rate - log_eta
    first = shape + num_memories - 1
    is_first = jax.random.uniform(key_part, (), alpha.dtype) < first / (first + num_data * rate)
    drawn = jax.random.gamma(key_alpha, first + is_first, dtype=alpha.dtype) / rate
    return jnp.maximum(drawn, _LEAST)


def draw_prior(learning: Learning, key: jax.Array, hyper: Hyper) -> Hyper:
    """Parameters from their priors; what is not learned stays as it is in ``hyper``."""
    key_alpha, key_discount = jax.random.split(key)
    dtype = hyper.alpha.dtype
    shape, rate = learning.alpha_prior
    alpha = jnp.maximum(jax.random.gamma(key_alpha, shape, dtype=dtype) / rate, _LEAST)
    if learning.discount_prior is None:
        return hyper._replace(alpha=alpha)
    first, second = learning.discount_prior
    return Hyper(alpha, jnp.clip(jax.random.beta(key_discount, first, second, dtype=dtype), 1e-6, 1 - 1e-6))


def _log_eppf(hyper: Hyper, counts: Float[Array, " K"], live: Bool[Array, " K"]) -> Float[Array, ""]:
    """Log probability of the partition (A19)."""
    safe, num = jnp.where(live, counts, 1), jnp.sum(live)
    steps = jnp.arange(1, len(counts))
    founded = jnp.sum(jnp.where(steps < num, jnp.log(hyper.alpha + hyper.discount * steps), 0))
    seated = jnp.sum(jnp.where(live, gammaln(safe - hyper.discount) - gammaln(1 - hyper.discount), 0))
    num_data = jnp.sum(jnp.where(live, counts, 0))
    return founded + seated - log_gamma_ratio(hyper.alpha + 1, num_data - 1)


def draw(
    learning: Learning, key: jax.Array, hyper: Hyper, counts: Float[Array, " K"], live: Bool[Array, " K"]
) -> Hyper:
    """alpha, and then d where it is learned, given the sizes of the memories."""
    key_alpha, key_discount = jax.random.split(key)
    if learning.dirichlet:
        num_data = jnp.sum(jnp.where(live, counts, 0))
        num_memories = jnp.sum(live).astype(counts.dtype)
        return hyper._replace(alpha=escobar_west(key_alpha, hyper.alpha, learning.alpha_prior, num_data, num_memories))
    shape, rate = learning.alpha_prior

    def of_alpha(free: jax.Array) -> jax.Array:
        alpha = jnp.exp(free)
        return _log_eppf(hyper._replace(alpha=alpha), counts, live) + shape * free - rate * alpha

    width = jnp.ones((), counts.dtype)
    alpha = jnp.exp(slice_update(key_alpha, of_alpha, jnp.log(hyper.alpha), width))
    hyper = hyper._replace(alpha=jnp.maximum(alpha, _LEAST).astype(counts.dtype))
    if learning.discount_prior is None:
        return hyper
    first, second = learning.discount_prior

    def of_discount(free: jax.Array) -> jax.Array:
        log_d, log_rest = jax.nn.log_sigmoid(free), jax.nn.log_sigmoid(-free)
        return _log_eppf(hyper._replace(discount=jnp.exp(log_d)), counts, live) + first * log_d + second * log_rest

    free = jnp.log(hyper.discount) - jnp.log1p(-hyper.discount)
    drawn = slice_update(key_discount, of_discount, free, width)
    return hyper._replace(discount=jnp.clip(jax.nn.sigmoid(drawn), 1e-6, 1 - 1e-6).astype(counts.dtype))
