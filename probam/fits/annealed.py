"""Annealed recall of a fit: the exact diffusion of its mixtures, run backwards from noisy rows or from pure noise.

The denoiser is that of the fitted mixture itself (:mod:`probam.distributions.blurred`), so nothing is learned; the
steps are those of :mod:`probam.dynamics.annealed`. Positions and noise are in model units.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from probam.compiled import compiled_by_work
from probam.distributions.blurred import blurred, denoised, widths
from probam.distributions.mixture import MemoryMixture
from probam.dynamics.annealed import diffuse, flow, noise_levels
from probam.family import Params
from probam.fits.landscape import survey
from probam.models.mixture import Mixture
from probam.placement import each
from probam.reports.summaries.quantities import evenly

__all__ = ["WAYS", "Annealed", "annealed", "from_noise"]

WAYS = ("ode", "sde")

_LEAST = 1e-3
"""Noise from which a state jumps to the denoised one, in widths of the narrowest memory."""

_FLOOR = 1e-5
"""The least such noise in standard deviations of the whole mixture, for memories without width (bits)."""

_PURE = 60.0
"""Noise at which only the mean and the variance of a mixture are left, in standard deviations of it."""

_MOST_DRAWS = 50


class Annealed(NamedTuple):
    """Where annealed recall ended."""

    states: Float[Array, "Q D"]
    energy: Float[Array, " Q"]
    responsible: Int[Array, " Q"]  # memory most responsible at the noisy start
    memory: Int[Array, " Q"]  # and at the end


@compiled_by_work(
    lambda _, params, __, x, ___, **options: (params, len(x) * options["num_steps"]),
    static_argnames=("by", "num_steps"),
)
def annealed(
    model: Mixture,
    params: Params,
    key: jax.Array,
    x: Float[Array, "Q D"],
    noise: Float[Array, ""],
    *,
    by: str,
    num_steps: int,
) -> Annealed:
    """Annealed recall of every row under one draw.

    Args:
        model: the program that was fitted.
        params: its sites.
        key: for the SDE.
        x: noisy rows.
        noise: the standard deviation of their noise, above 0.
        by: one of :data:`WAYS`.
        num_steps: how many levels the noise has.

    Raises:
        InputError: for a family whose density with noise has no closed form.
    """
    mixture = model.mixture(params)
    states = _run(mixture, key, x, noise, by=by, num_steps=num_steps)
    at_start = blurred(mixture, noise).responsibilities(x)
    energy = jnp.asarray(survey(mixture).energy(states))
    ends = (jnp.argmax(shares, axis=-1) for shares in (at_start, mixture.responsibilities(states)))
    return Annealed(states, energy, *ends)


def _run(
    mixture: MemoryMixture, key: jax.Array, x: Float[Array, "Q D"], noise: Float[Array, ""], *, by: str, num_steps: int
) -> Float[Array, "Q D"]:
    narrow, wide = widths(mixture)
    least = jnp.minimum(jnp.maximum(_LEAST * narrow, _FLOOR * wide), 0.1 * noise)
    levels = noise_levels(noise, least, num_steps).astype(x.dtype)
    denoise = partial(denoised, mixture)
    return flow(denoise, x, levels) if by == "ode" else diffuse(key, denoise, x, levels)


def from_noise(
    model: Mixture, sites: Params, key: jax.Array, num_data: int, *, by: str, num_steps: int = 1000
) -> Float[np.ndarray, "N D"]:
    """New rows by annealed recall from pure noise, as many from each of some draws.

    Args:
        model: the program that was fitted.
        sites: of all draws; at most fifty of them are used, evenly taken.
        key: of the starts, and of the SDE.
        num_data: how many.
        by: one of :data:`WAYS`.
        num_steps: how many levels the noise has.

    Raises:
        InputError: for a family whose density with noise has no closed form.
    """
    total = len(next(iter(sites.values())))
    num_draws = min(_MOST_DRAWS, total, num_data)
    chosen = evenly(total, num_draws)
    some = {name: value[chosen] for name, value in sites.items()}
    rows = np.asarray(_from_noise(model, some, key, -(-num_data // num_draws), by=by, num_steps=num_steps))
    return np.swapaxes(rows, 0, 1).reshape(-1, rows.shape[-1])[:num_data]


@compiled_by_work(
    lambda _, sites, __, num_rows, **options: (sites, num_rows * options["num_steps"]),
    static_argnums=3,
    static_argnames=("by", "num_steps"),
)
def _from_noise(
    model: Mixture, sites: Params, key: jax.Array, num_rows: int, *, by: str, num_steps: int
) -> Float[Array, "S N D"]:
    def one(draw: tuple[Params, jax.Array]) -> jax.Array:
        params, key = draw
        mixture = model.mixture(params)
        key_start, key_run = jax.random.split(key)
        noise = _PURE * widths(mixture)[1]
        spread = jnp.sqrt(mixture.variance + noise**2)
        starts = mixture.mean + spread * jax.random.normal(key_start, (num_rows, len(spread)), spread.dtype)
        return _run(mixture, key_run, starts, noise, by=by, num_steps=num_steps)

    num_draws = len(next(iter(sites.values())))
    numbers = num_rows * sum(value[0].size for value in sites.values())
    return jnp.asarray(each(one, (sites, jax.random.split(key, num_draws)), numbers=numbers))
