r"""Annealed recall: the noise falls step by step, and the inverse temperature \(\beta = 1 / (2 s^2)\) rises with it.

Both run the variance-exploding diffusion of Song et al. (2021), arXiv:2011.13456, backwards, from noise of standard
deviation s to none. They know the memory by its denoiser \(D_s(x)\), the mean of the clean state given a noisy one: for
stored data one unit step of recall (:func:`probam.energies.diffusion.denoise`), for any density
\(x + s^2 \nabla \log p_s(x)\).

.. math::
    \text{ODE:}\quad \frac{dx}{ds} = \frac{x - D_s(x)}{s}, \qquad
    \text{SDE:}\quad dx = 2\, \frac{x - D_s(x)}{s}\, ds + \sqrt{2 s}\, dw \quad (s \text{ falling})

Both lead from \(p_s\) to \(p_0\). The ODE has no noise of its own: each start has one end. The SDE draws: from one
start its ends have the law of the clean states given that noisy one.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["diffuse", "flow", "noise_levels"]

Denoiser = Callable[[Float[Array, "Q D"], Float[Array, ""]], Float[Array, "Q D"]]
"""Mean of the clean state given each noisy one and the standard deviation of the noise."""


def noise_levels(
    largest: float | Float[Array, ""], least: float | Float[Array, ""], num_steps: int
) -> Float[Array, " L"]:
    """Falling standard deviations of the noise, in equal ratios from the largest to the least, and then 0.

    Args:
        largest: of the start, at least ``least``.
        least: the last one above 0. It should be small against the width of a memory: from there the state jumps to
            the denoised one.
        num_steps: T, at least 2.

    >>> noise_levels(8.0, 1.0, 4).round(2).tolist()
    [8.0, 4.0, 2.0, 1.0, 0.0]
    """
    largest, least = jnp.asarray(largest, float), jnp.asarray(least, float)
    shares = jnp.linspace(0, 1, num_steps, dtype=largest.dtype)
    levels = jnp.exp((1 - shares) * jnp.log(largest) + shares * jnp.log(least))
    return jnp.concatenate([levels, jnp.zeros(1, levels.dtype)])


def flow(denoise: Denoiser, states: Float[Array, "Q D"], levels: Float[Array, " L"]) -> Float[Array, "Q D"]:
    """Ends of the probability flow, by Heun's method in the noise (Karras et al. 2022, arXiv:2206.00364).

    Its first half is :func:`probam.energies.diffusion.sampler_step`, recall relaxed by one minus the ratio of the
    noises.

    Args:
        denoise: D.
        states: noisy states at the first level.
        levels: falling standard deviations that end with 0 (:func:`noise_levels`).
    """

    def step(x: Array, pair: tuple[Array, Array]) -> tuple[Array, None]:
        now, then = pair
        slope = (x - denoise(x, now)) / now
        reached = x + (then - now) * slope
        next_slope = (reached - denoise(reached, then)) / then
        return x + 0.5 * (then - now) * (slope + next_slope), None

    states = states.astype(levels.dtype)
    ended, _ = jax.lax.scan(step, states, (levels[:-2], levels[1:-1]))
    return denoise(ended, levels[-2])


def diffuse(
    key: jax.Array, denoise: Denoiser, states: Float[Array, "Q D"], levels: Float[Array, " L"]
) -> Float[Array, "Q D"]:
    r"""Ends of the reverse diffusion, drawn step by step as if the denoised state were the clean one.

    .. math:: x' \sim N\Bigl( D_s(x) + \tfrac{s'^2}{s^2} (x - D_s(x)),\; \tfrac{s'^2}{s^2} (s^2 - s'^2) I \Bigr)

    which is Ho et al. (2020), arXiv:2006.11239, for exploding variance. The error of the law of the ends falls in
    inverse proportion to the number of steps.

    Args:
        key: of the noise.
        denoise: D.
        states: noisy states at the first level.
        levels: falling standard deviations that end with 0 (:func:`noise_levels`).
    """

    def step(x: Array, at: tuple[jax.Array, Array, Array]) -> tuple[Array, None]:
        key, now, then = at
        share, clean = (then / now) ** 2, denoise(x, now)
        noise = jnp.sqrt(share * (now**2 - then**2)) * jax.random.normal(key, x.shape, x.dtype)
        return clean + share * (x - clean) + noise, None

    keys = jax.random.split(key, len(levels) - 1)
    ended, _ = jax.lax.scan(step, states.astype(levels.dtype), (keys, levels[:-1], levels[1:]))
    return ended
