r"""Uniform memories: a box or a ball of constant density around each centre.

.. math::
    p(x \mid \mu_k, h_k) = \prod_d \frac{[\,|x_d - \mu_{kd}| \le h_{kd}\,]}{2 h_{kd}}
    \qquad\text{or}\qquad
    p(x \mid \mu_k, R_k) = \frac{\Gamma(D/2 + 1)}{\pi^{D/2} R_k^D} \, [\,\lVert x - \mu_k \rVert \le R_k\,]

The option ``shape`` is ``box`` or ``ball``. Sites: ``loc`` (K, D) and ``half_width`` (K, D) or ``radius`` (K,). Default
priors see each feature's midrange m and half-range h: locations are Normal(m, h), reaches inverse-Gamma with shape 2
around h / 4 (the root sum of squares of h / 4, for the ball).

**Engines.** The density jumps where a datum leaves a support: its gradient in the parameters is the pull to shrink
alone and knows nothing of the jump, so no engine that follows gradients can fit it. EM can: the M-step is the
smallest box (in a good approximation the smallest ball) around the data for which a memory has any responsibility. Such
a support never grows, so EM ends after a few steps near its k-means++ start; use many restarts.

**Recall.** There is none. Inside a support the energy is flat, outside all of them it is infinite and
responsibilities are 0 / 0 (CLAIMS A15).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Bool, Float
from numpyro.distributions import Distribution

from probam.distributions.uniform import UniformBall, UniformBox
from probam.errors import InputError
from probam.family import Params, Prior, conjugate, register
from probam.family.capabilities import MStep
from probam.models.location_scale import LocationScale, occupied
from probam.placement import each

__all__ = ["SHAPES", "UniformMemory"]

SHAPES = ("box", "ball")

_SHAPE = 2.0
"""Shape of the inverse-Gamma prior on a reach."""

_FLOOR = 1e-3
"""Smallest reach, relative to half the data's range, that maximum likelihood may reach."""

_STEPS = 64
"""Steps towards the farthest datum in the search of the smallest ball."""


@register
@dataclass(frozen=True)
class UniformMemory(LocationScale, MStep):
    """Memories of constant density in a box or a ball."""

    shape: str = "box"

    name: ClassVar[str] = "uniform"
    memory: ClassVar[str] = "a uniform memory"
    no_gradient: ClassVar[str] = (
        "its density jumps where a datum leaves a support, and gradients in the parameters do not see the jump"
    )

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise InputError(f"shape: expected one of {', '.join(SHAPES)}; got {self.shape!r}")

    @property
    def reach(self) -> str:
        """The site that says how far a support reaches."""
        return "half_width" if self.shape == "box" else "radius"

    def prior(self, x: np.ndarray) -> dict[str, Distribution]:
        """Default base measure, scaled to each feature's range."""
        low, high = x.min(axis=0), x.max(axis=0)
        half = 0.5 * (high - low)
        loc = dist.Normal(low + half, half).to_event(1)
        shape = np.full(half.shape, _SHAPE, x.dtype)
        if self.shape == "box":
            return {"loc": loc, "half_width": dist.InverseGamma(shape, shape * half / 4).to_event(1)}
        guess = x.dtype.type(np.linalg.norm(half) / 4)
        return {"loc": loc, "radius": dist.InverseGamma(shape[0], shape[0] * guess)}

    def bank(self, params: Mapping[str, jax.Array]) -> Distribution:
        """The memories, valid by construction."""
        kind = UniformBox if self.shape == "box" else UniformBall
        return kind(params["loc"], params[self.reach], validate_args=False)

    def maximize_from(
        self, x: Float[Array, "N D"], responsibilities: Float[Array, "N K"], params: Params, prior: Prior | None
    ) -> Params:
        """The best of three centres, each with its best reach: the tightest one, the prior's own, the previous one.

        Given a centre the best reach is exact; the previous centre among the candidates keeps the objective from
        falling.
        """
        counts = jnp.sum(responsibilities, axis=0)
        owned = responsibilities > 0
        tightest, reach_of = (_box if self.shape == "box" else _ball)(x, owned)
        candidates = [tightest, params["loc"]]
        half = 0.5 * (jnp.max(x, axis=0) - jnp.min(x, axis=0))
        floor = _FLOOR * (half if self.shape == "box" else jnp.linalg.norm(half))
        weight = counts[:, None] if self.shape == "box" else counts * x.shape[1]
        if prior is not None:
            normal = conjugate(prior, "loc", dist.Normal)
            gamma = conjugate(prior, self.reach, dist.InverseGamma)
            weight = weight + gamma.concentration
            floor = gamma.rate / weight
            candidates.append(jnp.broadcast_to(normal.loc, tightest.shape))

        best_loc, best_reach, best = tightest, tightest, None
        for loc in candidates:
            reach = jnp.maximum(reach_of(loc), floor)
            height = -weight * jnp.log(reach)
            if prior is not None:
                pull = -0.5 * ((loc - normal.loc) / normal.scale) ** 2
                height = height - gamma.rate / reach + (pull if self.shape == "box" else jnp.sum(pull, axis=-1))
            if best is None:
                best_loc, best_reach, best = loc, reach, height
                continue
            better = height > best
            best_loc = jnp.where(better if self.shape == "box" else better[:, None], loc, best_loc)
            best_reach, best = jnp.where(better, reach, best_reach), jnp.maximum(best, height)
        fresh = {"loc": best_loc, self.reach: best_reach}
        return fresh if prior is not None else occupied(counts, fresh, params)


_Reach = Callable[[Float[Array, "K D"]], jax.Array]


def _wider(reach: jax.Array) -> jax.Array:
    """Wider by a few roundings: the datum that defines an edge lies inside however its distance is computed."""
    return reach * (1 + 8 * float(np.finfo(reach.dtype).eps))


def _box(x: Float[Array, "N D"], owned: Bool[Array, "N K"]) -> tuple[Float[Array, "K D"], _Reach]:
    """Centre of the smallest box around the data that each memory owns; half-widths of the box at other centres."""

    def edges(mine: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jnp.min(jnp.where(mine[:, None], x, jnp.inf), 0), jnp.max(jnp.where(mine[:, None], x, -jnp.inf), 0)

    low, high = each(edges, owned.T, numbers=x.size)
    any_owned = jnp.any(owned, axis=0)[:, None]
    low, high = jnp.where(any_owned, low, jnp.mean(x, axis=0)), jnp.where(any_owned, high, jnp.mean(x, axis=0))

    def reach(loc: jax.Array) -> jax.Array:
        return jnp.where(any_owned, _wider(jnp.maximum(high - loc, loc - low)), 0)

    return low + 0.5 * (high - low), reach


def _ball(x: Float[Array, "N D"], owned: Bool[Array, "N K"]) -> tuple[Float[Array, "K D"], _Reach]:
    """Centre of nearly the smallest ball around the data that each memory owns (Badoiu and Clarkson 2003).

    Step i goes 1 / (i + 1) of the way to the farthest datum, starting at their mean; the radius is within a few percent
    of the least. Also the radii of balls at other centres.
    """
    any_owned = jnp.any(owned, axis=0)

    def distances(centre: jax.Array, mine: jax.Array) -> jax.Array:
        return jnp.where(mine, jnp.linalg.norm(x - centre, axis=-1), -jnp.inf)

    def centre_of(mine: jax.Array) -> jax.Array:
        mean = jnp.sum(jnp.where(mine[:, None], x, 0), axis=0) / jnp.maximum(jnp.sum(mine), 1)

        def nearer(step: jax.Array, centre: jax.Array) -> jax.Array:
            farthest = x[jnp.argmax(distances(centre, mine))]
            return centre + (farthest - centre) / (step + 2)

        return jnp.where(jnp.any(mine), jax.lax.fori_loop(0, _STEPS, nearer, mean), jnp.mean(x, axis=0))

    def reach(loc: jax.Array) -> jax.Array:
        radii = each(lambda one: jnp.max(distances(*one)), (loc, owned.T), numbers=x.size)
        return jnp.where(any_owned, _wider(radii), 0)

    return each(centre_of, owned.T, numbers=x.size), reach
