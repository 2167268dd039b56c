"""Claim D1: a diffusion whose score is known exactly is an associative memory with an annealed inverse temperature.

Physics: :mod:`probam.energies.diffusion`, :mod:`probam.energies.clam`. Statistics: NumPyro's Gaussian mixtures, their
gradients, the normal distribution function, and the Bessel functions of the von Mises-Fisher normaliser.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm
from jaxtyping import Array

from probam.claims.claim import Piece, extreme, ordinary, register, relative_error
from probam.claims.inputs import Floats, euclidean_bank, generator
from probam.claims.mixtures.gaussian import gaussian_mixture, log_density, log_density_gradient
from probam.energies import clam, diffusion
from probam.numerics.bessel import log_normalizer, mean_resultant_length

__all__: list[str] = []

_AMBROGIONI = "diffusion models as associative memories (abstracts of the topic; statement derived)"


def _blurred(key: jax.Array, *, deviation: float = 0.6, signal: float = 1.0, **settings: Any) -> dict[str, Floats]:
    """Noisy queries, clean data, the standard deviation of the noise and the signal."""
    drawn = euclidean_bank(key, **settings)
    return {
        "queries": drawn["queries"] * signal,
        "memories": drawn["memories"],
        "deviation": np.asarray(deviation),
        "signal": np.asarray(signal),
    }


def _exploding(key: jax.Array, **settings: Any) -> dict[str, Floats]:
    drawn = _blurred(key, **settings)
    del drawn["signal"]
    return drawn


_NOISES = (
    ordinary("s = 0.6"),
    ordinary("s = 3, D = 8", deviation=3.0, dim=8),
    extreme("s = 1e-3", deviation=1e-3),
    extreme("s = 1e3", deviation=1e3),
    extreme("D = 512", dim=512, num_queries=3),
    extreme("duplicate data", duplicates=True),
)
_PRESERVING = (
    ordinary("a = 0.8, s = 0.6", signal=0.8),
    ordinary("a = 0.28, s = 0.96", signal=0.28, deviation=0.96),
    extreme("a = 1e-3", signal=1e-3, deviation=float(np.sqrt(1 - 1e-6))),
    extreme("D = 512", dim=512, num_queries=3, signal=0.8),
)


def _noise_law(memories: Array, deviation: Array, signal: Array | float = 1.0) -> Any:
    """The density of the process at one time: a mixture of N(a x, s^2 I) with equal weights."""
    return gaussian_mixture(signal * memories, jnp.ones(memories.shape[0]), deviation**2)


@register(
    id="D1.exploding",
    source=_AMBROGIONI,
    title="variance-exploding diffusion has CLAM's density",
    statement="-log p_t(y) = beta E(y) + log N + (D/2) log(2 pi s^2), beta = 1 / (2 s^2)",
    latex=r"-\log p_t(y) = \beta E(y) + \log N + \tfrac D2 \log(2\pi s_t^2),\quad \beta = \tfrac{1}{2 s_t^2}",
    printed_statement="the abstract prints no equation",
    verdict="NEW",
    relation="equal",
    constant="log N + (D/2) log(2 pi s^2), scale 1 / (2 s^2)",
    inputs=_exploding,
    cases=_NOISES,
    tolerance=1e-12,
    exact={
        "beta": diffusion.inverse_temperature,
        "log_count": np.log,
        "log_normalizer": lambda s, dim: 0.5 * dim * jnp.log(2 * jnp.pi * s**2),
    },
    mutations={
        "beta doubled": {"beta": lambda s: 1 / s**2},
        "normaliser dropped": {"log_normalizer": lambda _s, _dim: 0.0},
        "log N dropped": {"log_count": lambda _n: 0.0},
        "deviation in place of variance": {"beta": lambda s: 1 / (2 * s)},
    },
)
def exploding_diffusion_is_clam(
    queries: Array,
    memories: Array,
    deviation: Array,
    *,
    beta: Piece,
    log_count: Callable[[float], Any],
    log_normalizer: Callable[[Array, int], Any],
) -> Array:
    """NumPyro's mixture against the scaled energy and its constants."""
    scaled = beta(deviation) * clam.energy(queries, memories, beta(deviation))
    right = scaled + log_count(memories.shape[0]) + log_normalizer(deviation, memories.shape[1])
    return relative_error(-log_density(_noise_law(memories, deviation), queries), right, scaled)


@register(
    id="D1.preserving",
    source=_AMBROGIONI,
    title="variance-preserving diffusion: memories shrink, same beta",
    statement="memories a x_mu, a^2 + s^2 = 1: -log p_t(y) = beta E(y; a x) + log N + (D/2) log(2 pi s^2)",
    latex=r"-\log p_t(y) = \beta E(y; a_t x) + \log N + \tfrac D2\log(2\pi s_t^2),\quad a_t^2 + s_t^2 = 1",
    printed_statement="the abstract prints no equation",
    verdict="NEW",
    relation="equal",
    constant="log N + (D/2) log(2 pi s^2), scale 1 / (2 s^2)",
    inputs=_blurred,
    cases=_PRESERVING,
    tolerance=1e-12,
    exact={
        "beta": diffusion.inverse_temperature,
        "scaled": lambda memories, a: a * memories,
        "log_normalizer": lambda s, dim: 0.5 * dim * jnp.log(2 * jnp.pi * s**2),
    },
    mutations={
        "memories not shrunk": {"scaled": lambda memories, _a: memories},
        "memories shrunk by a^2": {"scaled": lambda memories, a: a**2 * memories},
        "beta doubled": {"beta": lambda s: 1 / s**2},
        "normaliser dropped": {"log_normalizer": lambda _s, _dim: 0.0},
    },
)
def preserving_diffusion_is_clam(
    queries: Array,
    memories: Array,
    deviation: Array,
    signal: Array,
    *,
    beta: Piece,
    scaled: Piece,
    log_normalizer: Callable[[Array, int], Any],
) -> Array:
    """As D1.exploding, with the data shrunk by the signal on both sides."""
    energy = beta(deviation) * clam.energy(queries, scaled(memories, signal), beta(deviation))
    right = energy + jnp.log(float(memories.shape[0])) + log_normalizer(deviation, memories.shape[1])
    return relative_error(-log_density(_noise_law(memories, deviation, signal), queries), right, energy)


@register(
    id="D1.denoiser",
    source=_AMBROGIONI,
    title="the optimal denoiser is one step of recall",
    statement="E[x0 | y] = (y + s^2 grad log p_t(y)) / a = m(y) / a: Tweedie's formula is a unit CLAM step",
    latex=(
        r"\mathbb E[x_0 \mid y] = \tfrac1a\bigl(y + s^2 \nabla\log p_t(y)\bigr) = \tfrac1a\, m_{\beta}(y),\quad "
        r"\nabla \log p_t = \tfrac{a\,\mathbb E[x_0\mid y] - y}{s^2}"
    ),
    printed_statement="the abstract prints no equation",
    verdict="NEW",
    relation="equal",
    constant="s^2, 1 / a",
    inputs=_blurred,
    cases=_PRESERVING,
    tolerance=1e-10,
    exact={"denoiser": diffusion.denoise, "variance": lambda s: s**2},
    mutations={
        "signal left out": {"denoiser": lambda y, x, s, _a: diffusion.denoise(y, x, s)},
        "beta doubled": {"denoiser": lambda y, x, s, a: diffusion.denoise(y, x, s / jnp.sqrt(2.0), a)},
        "sign of the score flipped": {"variance": lambda s: -(s**2)},
        "deviation in place of variance": {"variance": lambda s: s},
    },
)
def denoiser_is_a_step_of_recall(
    queries: Array, memories: Array, deviation: Array, signal: Array, *, denoiser: Piece, variance: Piece
) -> Array:
    """The step against the posterior mean and against Tweedie's formula on autodiff of NumPyro's density."""
    law = _noise_law(memories, deviation, signal)
    shares = jax.nn.softmax(law.component_log_probs(queries), axis=-1)
    clean = denoiser(queries, memories, deviation, signal)
    # compared at the size of y: dividing by a = 1e-3 would enlarge the rounding of y
    tweedie = queries + variance(deviation) * log_density_gradient(law, queries)
    return jnp.maximum(relative_error(clean, shares @ memories), relative_error(signal * clean, tweedie, queries))


@register(
    id="D1.flow",
    source=_AMBROGIONI,
    title="the probability flow is recall with rising beta",
    statement="u = -log s: dy/du = s^2 grad log p_s(y) = m_beta(u)(y) - y, beta(u) = exp(2u) / 2",
    latex=(
        r"\frac{dy}{du} = s^2\,\nabla\log p_s(y) = m_{\beta(u)}(y) - y,\quad u = -\log s,\ \beta(u) = \tfrac12 e^{2u}"
    ),
    printed_statement="the abstract prints no equation",
    verdict="NEW",
    relation="equal",
    constant="beta(u) = exp(2 u) / 2, tau = 1",
    inputs=_exploding,
    cases=_NOISES,
    tolerance=1e-10,
    exact={"sharpness": lambda s: -jnp.log(s), "speed": lambda s: -s},
    mutations={
        "beta doubled": {"sharpness": lambda s: -jnp.log(s) + 0.5 * jnp.log(2.0)},
        "sign flipped": {"speed": lambda s: s},
        "half of the flow": {"speed": lambda s: -s / 2},
    },
)
def probability_flow_is_annealed_recall(
    queries: Array, memories: Array, deviation: Array, *, sharpness: Piece, speed: Piece
) -> Array:
    """The probability-flow equation dy/ds = -s grad log p_s(y), times ds/du = -s, against the physics' drift."""
    per_deviation = -deviation * log_density_gradient(_noise_law(memories, deviation), queries)
    return relative_error(
        speed(deviation) * per_deviation, diffusion.drift(queries, memories, sharpness(deviation)), queries
    )


def _line(key: jax.Array, *, start: float = 4.0, end: float = 0.25, num_steps: int = 400) -> dict[str, Floats]:
    draw = generator(key)
    return {
        "memories": np.array([[-1.3], [0.2], [0.9]]) + 0.1 * draw.normal(size=(3, 1)),
        "queries": start * draw.normal(size=(7, 1)),
        "times": np.linspace(-np.log(start), -np.log(end), num_steps + 1),
    }


def _runge_kutta(y: Array, now: Array, step: Array, memories: Array) -> Array:
    """A step of the classical fourth-order Runge-Kutta rule on the physics' drift."""
    k1 = diffusion.drift(y, memories, now)
    k2 = diffusion.drift(y + step / 2 * k1, memories, now + step / 2)
    k3 = diffusion.drift(y + step / 2 * k2, memories, now + step / 2)
    k4 = diffusion.drift(y + step * k3, memories, now + step)
    return y + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


@register(
    id="D1.transport",
    source=_AMBROGIONI,
    title="annealed recall carries noise into data, quantile by quantile",
    statement="D = 1: F_s(y(s)), the mixture's distribution function, is constant along the annealed flow",
    latex=(
        r"F_{s}\bigl(y(s)\bigr) = F_{s_0}\bigl(y(s_0)\bigr),\quad "
        r"F_s(y) = \tfrac1N\textstyle\sum_\mu \Phi\bigl(\tfrac{y-x_\mu}{s}\bigr)"
    ),
    printed_statement="the abstract prints no equation",
    verdict="NEW",
    relation="equal",
    constant="none; integrated with 400 steps of fourth order, error below 1e-10",
    inputs=_line,
    cases=(ordinary("s from 4 to 0.25"), ordinary("s from 2 to 0.5", start=2.0, end=0.5)),
    tolerance=1e-10,
    exact={"warp": lambda times: times, "rate": 1.0},
    mutations={
        "beta doubled": {"warp": lambda times: times + 0.5 * jnp.log(2.0)},
        "twice as fast": {"rate": 2.0},
        "beta held at its start": {"warp": lambda times: jnp.full_like(times, times[0])},
    },
)
def annealed_recall_keeps_quantiles(
    memories: Array, queries: Array, times: Array, *, warp: Piece, rate: float
) -> Array:
    """The distribution function before and after, with the flow integrated on the side of the physics."""
    step = times[1] - times[0]

    def advance(y: Array, now: Array) -> tuple[Array, None]:
        return y + rate * (_runge_kutta(y, now, step, memories) - y), None

    ended, _ = jax.lax.scan(advance, queries, warp(times[:-1]))

    def quantile(y: Array, time: Array) -> Array:
        return jnp.mean(norm.cdf((y - memories[:, 0]) / jnp.exp(-time)), axis=-1)

    return relative_error(quantile(queries, times[0]), quantile(ended, times[-1]))


@register(
    id="D1.sampler",
    source=_AMBROGIONI,
    title="a deterministic sampler step is a relaxed step of recall",
    statement="y' = x0(y) + s' eps(y) = y + (1 - s'/s)(m(y) - y), eps = -s grad log p_s(y)",
    latex=r"y' = \hat x_0 + s'\hat\varepsilon = y + \bigl(1 - \tfrac{s'}{s}\bigr)\bigl(m_{\beta(s)}(y) - y\bigr)",
    printed_statement="the abstract prints no equation",
    verdict="NEW",
    relation="equal",
    constant="relaxation 1 - s'/s",
    inputs=_exploding,
    cases=_NOISES,
    tolerance=1e-10,
    exact={"relaxation": None, "noise_sign": 1.0},
    mutations={
        "unit step": {"relaxation": lambda _ratio: 1.0},
        "variance ratio in place of deviation ratio": {"relaxation": lambda ratio: 1 - ratio**2},
        "sign of the noise flipped": {"noise_sign": -1.0},
    },
)
def sampler_step_is_relaxed_recall(
    queries: Array, memories: Array, deviation: Array, *, relaxation: Callable[[float], float] | None, noise_sign: float
) -> Array:
    """Posterior mean plus rescaled predicted noise (statistics) against the physics' step, s' = 0.7 s."""
    ratio = 0.7
    law = _noise_law(memories, deviation)
    clean = jax.nn.softmax(law.component_log_probs(queries), axis=-1) @ memories
    noise = -deviation * log_density_gradient(law, queries)
    expected = clean + noise_sign * ratio * deviation * noise
    if relaxation is None:
        step = diffusion.sampler_step(queries, memories, deviation, ratio * deviation)
    else:
        step = queries + relaxation(ratio) * (diffusion.denoise(queries, memories, deviation) - queries)
    return relative_error(step, expected, queries)


def _ring(key: jax.Array, *, variance: float, num_memories: int = 96) -> dict[str, Floats]:
    turn = float(generator(key).uniform(0, 2 * np.pi))
    angles = turn + 2 * np.pi * np.arange(num_memories) / num_memories
    return {
        "memories": np.stack([np.cos(angles), np.sin(angles)], axis=-1),
        "radii": np.array([0.05, 0.3, 0.8, 1.0, 1.7]),
        "deviation": np.asarray(np.sqrt(variance)),
    }


_RINGS = (
    ordinary("s^2 = 0.51", variance=0.51),
    ordinary("s^2 = 0.49", variance=0.49),
    ordinary("s^2 = 0.25", variance=0.25),
    extreme("s^2 = 0.05", variance=0.05),
    extreme("s^2 = 100", variance=100.0),
)


@register(
    id="D1.ring",
    source=_AMBROGIONI,
    title="many data on a circle: the energy of the ring",
    statement="N -> inf on the unit circle: E(R) = R^2 + 1 - 2 s^2 log I_0(R / s^2), I_0(k) = 1 / (2 pi C_2(k))",
    latex=r"E(R) = R^2 + 1 - 2 s^2 \log I_0(R/s^2),\qquad \log I_0(\kappa) = -\log 2\pi - \log C_2(\kappa)",
    printed_statement="the abstract prints no equation",
    verdict="NEW",
    relation="equal",
    constant="weights 1/N; N = 96 evenly spaced data agree with the limit to rounding",
    inputs=_ring,
    cases=_RINGS,
    tolerance=1e-12,
    exact={
        "variance": lambda s: s**2,
        "log_bessel": lambda kappa: -jnp.log(2 * jnp.pi) - log_normalizer(2, kappa),
        "share": lambda n: jnp.full(n, 1 / n),
    },
    mutations={
        "beta doubled": {"variance": lambda s: s**2 / 2},
        "normaliser dropped": {"log_bessel": lambda kappa: jnp.zeros_like(kappa)},
        "the circle taken for a sphere": {"log_bessel": lambda kappa: jnp.log(jnp.sinh(kappa) / kappa)},
        "log N left in": {"share": lambda n: jnp.ones(n)},
    },
)
def ring_energy_is_the_limit_of_many_memories(
    memories: Array, radii: Array, deviation: Array, *, variance: Piece, log_bessel: Piece, share: Piece
) -> Array:
    """CLAM on many memories, the physics' closed form, and the statistics' normaliser, three ways to one number."""
    square = variance(deviation)
    queries = radii[:, None] * jnp.array([[0.6, 0.8]], radii.dtype)
    many = clam.energy(queries, memories, diffusion.inverse_temperature(deviation), share(len(memories)))
    closed = diffusion.ring_energy(radii, deviation)
    normaliser = radii**2 + 1 - 2 * square * log_bessel(radii / square)
    return jnp.maximum(relative_error(many, closed, 1.0), relative_error(closed, normaliser, 1.0))


_HALVINGS = 60


@register(
    id="D1.ring_minima",
    source=_AMBROGIONI,
    title="a ring of minima appears at half a unit of variance",
    statement="R = A_2(R / s^2) = I_1/I_0 has a root above 0 iff s^2 < 1/2; there recall from N = 96 data stands still",
    latex=r"R = \tfrac{I_1}{I_0}(R/s^2) \text{ has a root } R > 0 \iff s^2 < \tfrac12",
    printed_statement="the abstract prints no equation",
    verdict="NEW",
    relation="equal",
    constant="threshold 1/2; R = 0.19866 at s^2 = 0.49, 0.83146 at 0.25",
    inputs=_ring,
    cases=_RINGS,
    tolerance=1e-12,
    exact={"threshold": 0.5, "variance": lambda s: s**2, "sharpen": 1.0},
    mutations={
        "threshold at 1": {"threshold": 1.0},
        "threshold at 1/4": {"threshold": 0.2},
        "s in place of s^2": {"variance": lambda s: s},
        "beta doubled": {"sharpen": 2.0},
    },
)
def ring_of_minima_exists_below_one_half(
    memories: Array,
    radii: Array,  # noqa: ARG001
    deviation: Array,
    *,
    threshold: float,
    variance: Piece,
    sharpen: float,
) -> Array:
    """Root by bisection on the statistics' side; the physics' recall must stand still there, at a minimum."""
    square = variance(deviation)

    def halve(_: jax.Array, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bracket
        middle = 0.5 * (low + high)
        outward = mean_resultant_length(2, middle / square) > middle
        return jnp.where(outward, middle, low), jnp.where(outward, high, middle)

    start = (jnp.full_like(square, 1e-3), jnp.ones_like(square))
    root = jnp.mean(jnp.stack(jax.lax.fori_loop(0, _HALVINGS, halve, start)))
    root = jnp.where(deviation**2 < threshold, root, 0.0)
    beta = sharpen * diffusion.inverse_temperature(deviation)
    place = jnp.array([0.6, 0.8], root.dtype)
    states = (root + jnp.array([[-0.02], [0.0], [0.02]], root.dtype)) * place
    nearer, here, farther = clam.energy(states, memories, beta)
    is_minimum = (nearer > here) & (farther > here)
    moved = clam.update(root * place, memories, beta)
    still = jnp.maximum(relative_error(moved, root * place, 1.0), jnp.abs(diffusion.ring_pull(root, deviation) - root))
    return jnp.where(is_minimum, still, jnp.inf)
