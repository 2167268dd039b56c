"""Claim A15, and A11 for Laplace and Student-t wells: families beyond the Gaussian and the von Mises-Fisher one.

Physics: :mod:`probam.energies.laplace`, ``student_t`` and ``supports``. Statistics: NumPyro's mixtures of
its own ``Laplace``, ``MultivariateStudentT`` and ``Levy``, and the uniform box of :mod:`probam.distributions.uniform`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float
from numpyro.distributions import Distribution

from probam.claims.claim import Piece, excess, extreme, ordinary, register, relative_error
from probam.claims.inputs import Floats, euclidean_bank, generator
from probam.claims.mixtures.gaussian import gaussian_mixture
from probam.distributions.uniform import UniformBox
from probam.dynamics.recall import recall
from probam.energies import clam, generalized_normal, laplace, quadratic, student_t, supports
from probam.energies.arguments import Logs

__all__ = ["mixture_of"]

_SCHAEFFER = "Schaeffer et al. (2023), Associative Memory under the Probabilistic Lens"
_DERIVED = "not in the paper: derived for this registry (CLAIMS A11)"


def mixture_of(bank: Distribution, weights: Float[Array, " K"]) -> Distribution:
    """NumPyro's broadcast mixture with mixing weights w_k / sum w."""
    return dist.MixtureSameFamily(
        dist.Categorical(logits=jnp.log(weights), validate_args=False), bank, validate_args=False
    )


def _rated_bank(key: jax.Array, *, rate: float = 1.7, **settings: Any) -> dict[str, Floats]:
    """A bank with its own rate for each memory and coordinate, spread over a factor of about ten around ``rate``."""
    drawn = euclidean_bank(key, **settings)
    draw = generator(jax.random.fold_in(key, 1))
    drawn["rates"] = rate * np.exp(draw.uniform(-1.2, 1.2, size=drawn["memories"].shape))
    del drawn["beta"]
    return drawn


_RATED = (
    ordinary("plain"),
    extreme("rates 1e-6", rate=1e-6),
    extreme("rates 1e6", rate=1e6),
    extreme("duplicate memories", duplicates=True),
    extreme("one memory 1e6 away", far=1e6),
    extreme("queries at 1e8", query_radius=1e8),
    extreme("offset 1e6", offset=1e6, tolerance=1e-9),  # distances between points near 1e6 are known to 1e-10
    ordinary("K = 1", num_memories=1, dim=2),
    extreme("D = 512", num_queries=3, num_memories=5, dim=512),
    extreme("a zero weight", zero_weights=True),
)

_COUNTS = np.array([1, 3, 2, 1, 4, 2])


def _weighted_data(key: jax.Array, **settings: Any) -> dict[str, Floats]:
    drawn = euclidean_bank(key, num_queries=len(_COUNTS), **settings)
    drawn["counts"] = generator(jax.random.fold_in(key, 2)).permutation(_COUNTS).astype(float)
    return drawn


@register(
    id="A15.sample_weights",
    source=f"{_SCHAEFFER}, Sec. 2, weighted clustering",
    title="weights of data are not weights of memories",
    statement="sum_n s_n log p(x_n) = -sum_n s_n (beta E(x_n) + const): the log likelihood of data repeated s_n times, "
    "whatever the weights w_k inside E",
    latex=r"\textstyle\sum_n s_n \log p(x_n) = -\sum_n s_n \bigl(\beta E(x_n) + \text{const}\bigr)",
    printed_statement="weighted clustering corresponds to a non-uniform mixing distribution pi",
    verdict="COND",
    relation="equal",
    constant="log sum w + (D/2) log(pi / beta)",
    inputs=_weighted_data,
    cases=(ordinary("plain"), extreme("beta 1e-6", beta=1e-6), extreme("beta 1e6", beta=1e6)),
    tolerance=1e-12,
    exact={"total": lambda s, terms: jnp.sum(s * terms), "memory_weights": lambda w: w},
    mutations={
        "sample weights left out": {"total": lambda _counts, terms: jnp.sum(terms)},
        "sample weights inside the log": {"total": lambda s, terms: jnp.sum(terms + jnp.log(s))},
        "memory weights left out": {"memory_weights": jnp.ones_like},
    },
)
def sample_weights_repeat_the_data(
    queries: Array, memories: Array, weights: Array, beta: Array, counts: Array, *, total: Piece, memory_weights: Piece
) -> Array:
    """The weighted sum of energies against NumPyro's log likelihood of the repeated data."""
    constant = jnp.log(jnp.sum(weights)) + 0.5 * memories.shape[1] * jnp.log(jnp.pi / beta)
    energy = beta * clam.energy(queries, memories, beta, memory_weights(weights))
    repeated = jnp.repeat(queries, counts.astype(int), axis=0, total_repeat_length=int(_COUNTS.sum()))
    likelihood = jnp.sum(jnp.asarray(gaussian_mixture(memories, weights, 1 / (2 * beta)).log_prob(repeated)))
    size = jnp.sum(jnp.abs(counts * energy)) + jnp.abs(constant)
    return relative_error(-total(counts, energy + constant), likelihood, size)


@register(
    id="A15.laplace",
    source=f"{_SCHAEFFER}, Sec. 2, other kernels",
    title="absolute distances are product-Laplace memories",
    statement="-log p(x) = E(x) + log sum w + D log 2, E = -log sum_k w_k prod_d beta_kd exp(-beta_kd |x_d - mu_kd|), "
    "scales 1 / beta, pi_k ∝ w_k",
    latex=(
        r"-\log\textstyle\sum_k \pi_k \prod_d \mathrm{Laplace}(x_d \mid \mu_{kd}, 1/\beta_{kd}) = "
        r"-\log\sum_k w_k \prod_d \beta_{kd} e^{-\beta_{kd}|x_d - \mu_{kd}|} + \log\sum_k w_k + D\log 2"
    ),
    printed_statement="Laplace kernels are possible",
    verdict="CONST",
    relation="equal",
    constant="log sum w + D log 2",
    inputs=_rated_bank,
    cases=_RATED,
    tolerance=1e-12,
    exact={
        "log_normaliser": lambda rates: jnp.sum(jnp.log(rates), axis=-1),
        "rate": lambda rates: rates,
        "memory_weights": lambda w: w,
        "energy": laplace.energy,
    },
    mutations={
        "normaliser left out": {"log_normaliser": lambda rates: 0 * rates[:, 0]},
        "rates doubled": {"rate": lambda rates: 2 * rates},
        "weights left out": {"memory_weights": jnp.ones_like},
        "distance along the diagonal": {"energy": lambda v, mu, b, w: generalized_normal.energy(v, mu, b, 2.0, w)},
    },
)
def absolute_distances_are_laplace(
    queries: Array,
    memories: Array,
    weights: Array,
    rates: Array,
    *,
    log_normaliser: Piece,
    rate: Piece,
    memory_weights: Piece,
    energy: Piece,
) -> Array:
    """Energy against NumPyro's mixture."""
    bank = dist.Laplace(memories, 1 / rates).to_event(1)
    log_p = jnp.asarray(mixture_of(bank, weights).log_prob(queries))
    w = memory_weights(weights)
    constant = jnp.log(jnp.sum(weights)) + memories.shape[1] * jnp.log(2.0)
    computed = energy(queries, memories, rate(rates), Logs(jnp.log(w) + log_normaliser(rates)))
    return relative_error(computed + constant, -log_p, constant)


def _boxed(key: jax.Array, *, offset: float = 0.0, reach: float = 1.0, **settings: Any) -> dict[str, Floats]:
    """Boxes, queries well inside one of them each, and queries outside all."""
    drawn = euclidean_bank(key, **settings)
    draw = generator(jax.random.fold_in(key, 3))
    half = reach * draw.uniform(0.3, 1.5, size=drawn["memories"].shape)
    which = draw.integers(len(half), size=len(drawn["queries"]))
    memories, shape = drawn["memories"] + offset, drawn["queries"].shape
    inside = memories[which] + half[which] * draw.uniform(-0.9, 0.9, size=shape)
    outside = memories.max(axis=0) + 2 * half.max() * draw.uniform(1, 3, size=shape)
    return {"queries": inside, "strays": outside, "memories": memories, "weights": drawn["weights"], "reach": half}


@register(
    id="A15.uniform",
    source=f"{_SCHAEFFER}, Sec. 2, other kernels",
    title="uniform memories have no retrieval dynamics",
    statement="inside the supports -log p = E + const and both gradients are 0: no state moves; outside all of them "
    "both are infinite and the responsibilities 0 / 0",
    latex=r"\nabla E(v) = 0 \text{ for almost all } v,\qquad E(v) = \infty \text{ outside } \textstyle\bigcup_k S_k",
    printed_statement="uniform kernels are possible",
    verdict="NONE",
    relation="equal",
    constant="log sum w",
    inputs=_boxed,
    cases=(
        ordinary("plain"),
        ordinary("narrow boxes", reach=1e-3),
        extreme("boxes of 1e6", reach=1e6),
        extreme("offset 1e6", offset=1e6),
        ordinary("K = 1", num_memories=1, dim=2),
    ),
    tolerance=1e-12,
    exact={
        "energy": supports.box_energy,
        "log_volume": lambda h: jnp.sum(jnp.log(2 * h), axis=-1),
        "reach_of": lambda h: h,
        "memory_weights": lambda w: w,
    },
    mutations={
        "a soft edge": {"energy": lambda v, mu, h, w: generalized_normal.energy(v, mu, h**-8.0, 8.0, w)},
        "volumes left out": {"log_volume": lambda h: 0 * h[:, 0]},
        "boxes twice as wide": {"reach_of": lambda h: 2.0 * h},
        "weights left out": {"memory_weights": jnp.ones_like},
    },
)
def uniform_memories_do_not_move(
    queries: Array,
    strays: Array,
    memories: Array,
    weights: Array,
    reach: Array,
    *,
    energy: Piece,
    log_volume: Piece,
    reach_of: Piece,
    memory_weights: Piece,
) -> Array:
    """Energies against densities inside; both forces there; infinite where no support is."""
    mixture = mixture_of(UniformBox(memories, reach), weights)
    log_w = Logs(jnp.log(memory_weights(weights)) - log_volume(reach))

    def height(v: Array) -> Array:
        return energy(v, memories, reach_of(reach), log_w)

    constant = jnp.log(jnp.sum(weights))
    agree = relative_error(height(queries) + constant, -jnp.asarray(mixture.log_prob(queries)), constant)
    force = jnp.max(jnp.abs(jax.grad(lambda v: jnp.sum(height(v)))(queries)))
    score = jnp.max(jnp.abs(jax.grad(lambda v: jnp.sum(jnp.asarray(mixture.log_prob(v))))(queries)))
    gone = jnp.all(jnp.isposinf(height(strays))) & jnp.all(jnp.isneginf(jnp.asarray(mixture.log_prob(strays))))
    return jnp.maximum(jnp.maximum(agree, force + score), jnp.where(gone, 0.0, jnp.inf))


def _one_sided(key: jax.Array, *, num_features: int = 3, scale: float = 1.0, offset: float = 0.0) -> dict[str, Floats]:
    draw = generator(key)
    scales = scale * np.exp(draw.uniform(-1.2, 1.2, size=num_features))
    memory = draw.normal(size=num_features) + offset
    queries = memory + scales * np.exp(draw.normal(size=(5, num_features)))
    return {"queries": queries, "memory": memory, "scales": scales}


@register(
    id="A15.levy",
    source=f"{_SCHAEFFER}, Sec. 2, other kernels",
    title="a Lévy memory retrieves a shifted point",
    statement="-log p = E + const for x > mu; both are infinite at mu itself and least at mu + c / 3",
    latex=r"p(\mu) = 0,\qquad \arg\max_x p(x) = \mu + c/3",
    printed_statement="Lévy kernels are possible",
    verdict="COND",
    relation="equal",
    constant="(D/2) log(2 pi) - (1/2) sum log c",
    inputs=_one_sided,
    cases=(
        ordinary("plain"),
        ordinary("one feature", num_features=1),
        extreme("scales of 1e-6", scale=1e-6, tolerance=1e-9),  # mu + c / 3 is known to eps |mu|
        extreme("scales of 1e6", scale=1e6),
        extreme("offset 1e3", offset=1e3, tolerance=1e-11),
    ),
    tolerance=1e-12,
    exact={
        "mode": lambda mu, c: mu + c / 3,
        "constant": lambda c: 0.5 * (c.size * jnp.log(2 * jnp.pi) - jnp.sum(jnp.log(c))),
        "scale_of": lambda c: c,
    },
    mutations={
        "mode at mu + c / 2": {"mode": lambda mu, c: mu + c / 2},
        "mode at mu + c / 4": {"mode": lambda mu, c: mu + c / 4},
        "normaliser left out": {"constant": lambda c: 0.5 * c.size * jnp.log(2 * jnp.pi)},
        "scales doubled in the energy": {"scale_of": lambda c: 2 * c},
    },
)
def levy_memories_retrieve_a_shifted_point(
    queries: Array, memory: Array, scales: Array, *, mode: Piece, constant: Piece, scale_of: Piece
) -> Array:
    """Energies against NumPyro's densities; both slopes at the mode, in units of the scales; the energy at mu."""
    bank = dist.Levy(memory, scales, validate_args=False).to_event(1)

    def height(v: Array) -> Array:
        return supports.levy_energy(v, memory[None], scale_of(scales)[None])

    computed, log_p = height(queries), jnp.asarray(bank.log_prob(queries))
    agree = relative_error(computed + constant(scales), -log_p, constant(scales))
    bottom = mode(memory, scales)
    force = jnp.max(jnp.abs(scales * jax.grad(height)(bottom)))
    score = jnp.max(jnp.abs(scales * jax.grad(lambda x: jnp.asarray(bank.log_prob(x)))(bottom)))
    infinite = jnp.isposinf(height(memory))
    return jnp.maximum(jnp.maximum(agree, (force + score) / 10), jnp.where(infinite, 0.0, jnp.inf))


_STEPS = np.array([0.05, 0.3, 0.5, 0.8, 1.0])


def _with_steps(key: jax.Array, **settings: Any) -> dict[str, Floats]:
    return {**_rated_bank(key, **settings), "steps": _STEPS}


def _moved(update: Callable[[Array], Array], energy: Callable[[Array], Array], queries: Array, steps: Array) -> Array:
    """States after one step of recall of each size, (A, N, D)."""
    states: Array = jax.vmap(lambda step: recall(update, energy, queries, step=step, max_steps=1).states)(steps)
    return states


def _bound_of(memories: Array, rates: Array, share: Array) -> Callable[[Array], Array]:
    """F(v') = sum_k r_k sum_d beta_kd |v'_d - mu_kd| with the shares of v."""
    return lambda v: jnp.sum(share * jnp.sum(rates * jnp.abs(v[..., None, :] - memories), axis=-1), axis=-1)


@register(
    id="A11.laplace",
    source=_DERIVED,
    title="weighted medians descend on Laplace wells",
    statement="m(v) = coordinate-wise median with weights r_k beta_kd minimises F(v') = sum_k r_k sum_d beta_kd "
    "|v'_d - mu_kd|, and log p(v + a (m - v)) >= log p(v) + a (F(v) - F(m)) for 0 < a <= 1; equality for K = 1",
    latex=r"\log p(v + a(m(v) - v)) - \log p(v) \ge a \bigl(F(v) - F(m(v))\bigr) \ge 0,\quad 0 < a \le 1",
    printed_statement="not stated",
    verdict="NEW",
    relation="at most",
    constant="a",
    inputs=_with_steps,
    cases=_RATED,
    tolerance=1e-12,
    exact={"gain": lambda a: a, "update": laplace.update, "shares": laplace.responsibilities, "direction": 1.0},
    mutations={
        "gain doubled": {"gain": lambda a: 2 * a},
        "mean in place of the median": {"update": lambda v, mu, b, w: quadratic.update(v, mu, b, w)},
        "step uphill": {"direction": -1.0},
        "even shares": {"shares": lambda v, mu, *_of: jnp.ones((*v.shape[:-1], len(mu))) / len(mu)},
    },
)
def weighted_medians_descend(
    queries: Array,
    memories: Array,
    weights: Array,
    rates: Array,
    steps: Array,
    *,
    gain: Piece,
    update: Piece,
    shares: Piece,
    direction: float,
) -> Array:
    """Amount by which -log p (NumPyro) after a step exceeds the bound, and F at the median the least F elsewhere."""
    of = (memories, rates, Logs(jnp.log(weights) + jnp.sum(jnp.log(rates), axis=-1)))
    target = update(queries, *of)
    moved = _moved(lambda v: v + direction * (target - v), lambda v: laplace.energy(v, *of), queries, steps)
    mixture = mixture_of(dist.Laplace(memories, 1 / rates).to_event(1), weights)
    before, after = -jnp.asarray(mixture.log_prob(queries)), -jnp.asarray(mixture.log_prob(moved))
    above = _bound_of(memories, rates, shares(queries, *of))
    bound = before - gain(steps)[:, None] * (above(queries) - above(target))
    descends = excess(after, bound, before)
    if memories.shape[0] == 1:
        descends = relative_error(after, bound, before)
    elsewhere = jnp.stack(
        [above(jnp.broadcast_to(at, queries.shape)) for at in (*memories, jnp.mean(memories, axis=0))]
    )
    return jnp.maximum(descends, excess(above(target), jnp.min(elsewhere, axis=0), above(queries)))


def _heavy_bank(key: jax.Array, *, df: float = 3.0, **settings: Any) -> dict[str, Floats]:
    drawn = _rated_bank(key, **settings)
    drawn["df"] = df * np.exp(generator(jax.random.fold_in(key, 4)).uniform(-1, 1, size=len(drawn["memories"])))
    return {**drawn, "steps": np.array([0.05, 0.5, 1.0, 1.5, 1.9])}


@register(
    id="A11.student_t",
    source=_DERIVED,
    title="reweighted means descend on Student-t wells",
    statement="m(v) = B^-1 sum_k r_k u_k A_k mu_k, u_k = (nu_k + D) / (nu_k + q_k), B = sum_k r_k u_k A_k: "
    "-log p(v + a (m - v)) + log p(v) <= -(a (2 - a) / 2) (m - v)' B (m - v) for 0 < a < 2",
    latex=(
        r"-\log p(v + a(m - v)) + \log p(v) \le -\tfrac{a(2-a)}{2} (m - v)^\top B (m - v),\quad "
        r"B = \textstyle\sum_k r_k \tfrac{\nu_k + D}{\nu_k + q_k} A_k"
    ),
    printed_statement="not stated",
    verdict="NEW",
    relation="at most",
    constant="a (2 - a) / 2",
    inputs=_heavy_bank,
    cases=(
        *(case for case in _RATED if case.name not in ("K = 1", "offset 1e6")),
        extreme("df 1e4", df=1e4),
        ordinary("df 0.3", df=0.3),
    ),
    tolerance=1e-12,
    exact={"gain": lambda a: a * (2 - a) / 2, "update": student_t.update, "direction": 1.0},
    mutations={
        "half dropped": {"gain": lambda a: a * (2 - a)},
        "pull of the tails left out of the mean": {
            "update": lambda v, mu, a, _df, w: quadratic.update(v, mu, a / 2, w)
        },
        "bound 3 a / 2": {"gain": lambda a: 1.5 * a},
        "step uphill": {"direction": -1.0},
    },
)
def reweighted_means_descend(
    queries: Array,
    memories: Array,
    weights: Array,
    rates: Array,
    df: Array,
    steps: Array,
    *,
    gain: Piece,
    update: Piece,
    direction: float,
) -> Array:
    """Amount by which -log p (NumPyro) after a step exceeds the bound; the physics moves, with A = diag(rates)."""
    dim = memories.shape[1]
    half = df / 2
    norm = jax.scipy.special.gammaln(half + dim / 2) - jax.scipy.special.gammaln(half) - dim / 2 * jnp.log(df)
    of = (memories, rates, df, Logs(jnp.log(weights) + 0.5 * jnp.sum(jnp.log(rates), axis=-1) + norm))
    target = update(queries, *of)
    moved = _moved(lambda v: v + direction * (target - v), lambda v: student_t.energy(v, *of), queries, steps)
    scale = jnp.sqrt(1 / rates)[:, :, None] * jnp.eye(dim)
    mixture = mixture_of(dist.MultivariateStudentT(df, memories, scale, validate_args=False), weights)
    before, after = -jnp.asarray(mixture.log_prob(queries)), -jnp.asarray(mixture.log_prob(moved))
    form = jnp.sum(rates * (queries[:, None, :] - memories) ** 2, axis=-1)
    share = student_t.responsibilities(queries, *of) * (df + dim) / (df + form)
    length = jnp.sum((share @ rates) * (target - queries) ** 2, axis=-1)
    return excess(after, before - gain(steps)[:, None] * length, before)
