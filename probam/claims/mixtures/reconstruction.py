"""Claim A10 (iv): the reconstruction error of Eq. 3 is not the negative log likelihood.

Physics: gradients of |x - v|^2 through the CLAM update, once or to its fixed point. Statistics: gradients of the log
likelihood of NumPyro's mixture.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float

from probam.claims.claim import extreme, ordinary, register, relative_error
from probam.claims.inputs import Floats
from probam.claims.mixtures.gaussian import ALONE, gaussian_mixture, log_density, uniform_bank
from probam.distributions.mixture import MemoryMixture
from probam.energies import clam

__all__: list[str] = []

_SCHAEFFER = "Schaeffer et al. (2023), Associative Memory under the Probabilistic Lens"


def _shares(x: Array, memories: Array, beta: Array) -> Float[Array, "N K"]:
    """Responsibilities by the statistics."""
    num_memories = memories.shape[0]
    bank = dist.Normal(memories, jnp.sqrt(1 / (2 * beta))).to_event(1)
    return MemoryMixture(jnp.full(num_memories, -jnp.log(float(num_memories))), bank).responsibilities(x)


def _one_step_loss(memories: Array, x: Array, beta: Array) -> Array:
    return jnp.sum((x - clam.update(x, memories, beta)) ** 2)


@register(
    id="A10.loss",
    source=f"{_SCHAEFFER}, Eq. 3",
    title="gradient of the reconstruction error after one step",
    statement="T = 1: dL/dmu_k = -2 sum_n r_k [(x - m) - 2 beta (mu_k - x) ((mu_k - m).(x - m))]",
    latex=(
        r"\frac{dL}{d\mu_k} = -2\sum_n r_{nk}\bigl[(x_n - m_n) "
        r"- 2\beta(\mu_k - x_n)\,(\mu_k - m_n)\cdot(x_n - m_n)\bigr]"
    ),
    printed_statement=(
        "learning by Eq. 3 corresponds to the M-step: gradient of the NLL / beta, -2 sum_n r_k (x - mu_k)"
    ),
    verdict="WRONG",
    relation="equal",
    constant="none",
    inputs=uniform_bank,
    cases=(
        ordinary("plain"),
        ordinary("beta 0.5", beta=0.5),
        extreme("beta 1e-6", beta=1e-6),
        extreme("beta 1e6", beta=1e6),
        ALONE,
    ),
    tolerance=1e-10,
    exact={"coupling": 2.0, "bracket": None},
    printed={"bracket": lambda x, _m, mu, _beta: x[:, None, :] - mu},
    printed_exceeds=0.2,
    mutations={"factor 2 dropped": {"coupling": 1.0}, "sign of the coupling flipped": {"coupling": -2.0}},
)
def reconstruction_gradient_has_a_coupling_term(
    queries: Array,
    memories: Array,
    beta: Array,
    *,
    coupling: float,
    bracket: Callable[[Array, Array, Array, Array], Array] | None,
) -> Array:
    """Autodiff through the physics' update against the formula with the statistics' responsibilities."""
    shares = _shares(queries, memories, beta)
    m = shares @ memories
    if bracket is None:
        residual = queries - m
        inner = jnp.einsum("nkd,nd->nk", memories - m[:, None, :], residual)
        terms = residual[:, None, :] - coupling * beta * (memories - queries[:, None, :]) * inner[..., None]
    else:
        terms = bracket(queries, m, memories, beta)
    expected = -2 * jnp.einsum("nk,nkd->kd", shares, terms)
    computed: Array = jax.grad(_one_step_loss)(memories, queries, beta)
    return relative_error(computed, expected)


def _limit(memories: Array, x: Array, beta: Array, num_steps: int) -> Array:
    ended: Array = jax.lax.fori_loop(0, num_steps, lambda _, v: clam.update(v, memories, beta), x)
    return ended


@register(
    id="A10.fixed_point",
    source=f"{_SCHAEFFER}, Eq. 3 with T -> inf",
    title="how the fixed point moves with the memories",
    statement="dv*/dmu_k = (I - 2 beta Cov_r)^-1 r_k [I - 2 beta (mu_k - v*)(mu_k - v*)^T] at v*",
    latex=(
        r"\frac{\partial v^*}{\partial \mu_k} = (I - 2\beta\operatorname{Cov}_r)^{-1} r_k "
        r"\bigl[I - 2\beta(\mu_k - v^*)(\mu_k - v^*)^\top\bigr]"
    ),
    printed_statement="no formula",
    verdict="NEW",
    relation="equal",
    constant="2 beta",
    inputs=uniform_bank,
    cases=(
        ordinary("plain", num_queries=3, beta=0.4),
        ordinary("beta 8", num_queries=3, beta=8.0),
        extreme("beta 1e-6", num_queries=3, beta=1e-6),
        extreme("beta 1e3", num_queries=3, beta=1e3),
    ),
    tolerance=1e-10,
    exact={"implicit": 2.0, "spread": 2.0, "at_start": False},
    mutations={
        "implicit factor dropped": {"implicit": 0.0},
        "beta for 2 beta": {"spread": 1.0},
        "responsibilities at the start": {"at_start": True},
    },
)
def fixed_point_moves_by_the_implicit_function_theorem(
    queries: Array, memories: Array, beta: Array, *, implicit: float, spread: float, at_start: bool
) -> Array:
    """Forward-mode autodiff through 600 unit steps against the implicit formula with the statistics' shares."""

    def one(x: Array) -> tuple[Array, Array]:
        def ended(locations: Array) -> tuple[Array, Array]:
            v = _limit(locations, x, beta, 600)
            return v, v

        moved, v = jax.jacfwd(ended, has_aux=True)(memories)  # (D, K, D)
        return moved, v

    unrolled, v = jax.vmap(one)(queries)
    shares = _shares(queries if at_start else v, memories, beta)
    identity = jnp.eye(memories.shape[1])
    from_v = memories - v[:, None, :]
    mean = jnp.einsum("nk,nkd->nd", shares, from_v)
    centred = from_v - mean[:, None, :]
    covariance = jnp.einsum("nk,nki,nkj->nij", shares, centred, centred)
    direct = identity - spread * beta * jnp.einsum("nki,nkj->nkij", from_v, from_v)
    moved_by = jnp.einsum("nk,nkij->nikj", shares, direct)  # (N, D, K, D)
    flat = moved_by.reshape(*moved_by.shape[:2], -1)
    solved = jnp.linalg.solve(identity - implicit * beta * covariance, flat)
    return relative_error(unrolled, solved.reshape(moved_by.shape))


def _cosine(a: Array, b: Array) -> Array:
    cosine: Array = jnp.sum(a * b) / (jnp.linalg.norm(a) * jnp.linalg.norm(b))
    return cosine


def _cold(key: jax.Array, **settings: Any) -> dict[str, Floats]:
    drawn = uniform_bank(key, **settings)
    return {name: np.asarray(value) for name, value in drawn.items()}


@register(
    id="A10.cold",
    source=f"{_SCHAEFFER}, Sec. 3, 'corresponds to CLAM shaping the energy landscape'",
    title="the two losses agree for one memory and at low temperature",
    statement="1 - cos(grad Eq. 3, grad NLL) = 0 for K = 1, -> 0 as beta -> inf; the gradients differ in between",
    latex=(
        r"\cos\angle\bigl(\nabla_\mu L,\ \nabla_\mu \mathrm{NLL}\bigr) \to 1 \quad (\beta \to \infty \text{ "
        r"or } K = 1)"
    ),
    printed_statement="the M-steps correspond at every beta",
    verdict="WRONG",
    relation="limit",
    constant="both tend to the k-means gradient",
    inputs=_cold,
    cases=(
        ordinary("beta 0.5", beta=0.5),
        ordinary("beta 2", beta=2.0),
        extreme("beta 1e4", beta=1e4),
        ordinary("K = 1", num_memories=1, dim=2),
    ),
    tolerance=1e-10,
    exact={"is_exempt": True, "sign": 1.0},
    printed={"is_exempt": False},
    printed_exceeds=0.05,
    mutations={"sign flipped": {"sign": -1.0}},
)
def losses_agree_only_in_the_limits(
    queries: Array, memories: Array, beta: Array, *, is_exempt: bool, sign: float
) -> Array:
    """One minus the cosine between the two gradients, where the limits say that it vanishes."""
    loss = jax.grad(_one_step_loss)(memories, queries, beta)

    def negative_log_lik(locations: Array) -> Array:
        return -jnp.sum(log_density(gaussian_mixture(locations, jnp.ones(len(locations)), 1 / (2 * beta)), queries))

    difference = 1 - sign * _cosine(loss, jax.grad(negative_log_lik)(memories))
    claimed = (beta > 1e3) | (memories.shape[0] == 1)
    return jnp.where(claimed | (not is_exempt), jnp.abs(difference), 0.0)
