r"""How many patterns a Gaussian kernel density estimate stores, against the theorem on modern Hopfield networks.

Patterns are uniform on the sphere of radius \(\sqrt D\). The estimate is CLAM's mixture; on a sphere its update is that
of a modern Hopfield network with \(\beta_{\rm MCHN} = 2 \beta_{\rm CLAM}\), which is the beta here. A pattern is stored
if recall from a noisy copy ends in a ball around it, of half the distance to its nearest neighbour, so that no two
balls meet. The capacity is the number of patterns of which half are stored.

Beside it stands the number at which the mean of all other kernels equals the pattern's own,
\(e^{\beta D} C_D(\beta D) / C_D(0)\) with the normaliser C of the von Mises-Fisher law. The bound of Ramsauer et al.
(2021), Theorem 3, applies where D and beta are larger; there the number of patterns that it promises is tried.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float
from scipy.special import lambertw

from probam.energies import clam
from probam.experiments.experiment import Drawing, Experiment, Settings, register
from probam.experiments.finding import Finding, judged, mean_with_error, over_repeats
from probam.numerics.bessel import log_normalizer
from probam.reports.figures.style import MEMORY_COLOURS, log_axis, new_figure, quiet, styled
from probam.reports.page import number, table

__all__ = ["KERNEL_DENSITY_CAPACITY", "bound", "capacity", "crosstalk_capacity", "stored_shares"]

_NOISE = 0.3
"""Standard deviation of the noise of a start, in each coordinate; those of a pattern are of order 1."""
_STARTS, _STEPS = 48, 60
_BETA, _DIM = 1.0, 8
"""What is held fixed while the other varies."""
_DIMS = (4, 6, 8, 10, 12)
_BETAS = (0.5, 0.7, 1.0, 1.4)
_PROMISED = ((20, 8.0), (30, 4.0), (30, 6.0), (30, 8.0), (40, 6.0))
"""Dimensions and betas at which the theorem applies."""


@partial(jax.jit, static_argnames=("dim", "most"))
def stored_shares(
    key: Array, beta: Float[Array, ""], sizes: Float[Array, " N"], *, dim: int, most: int
) -> Float[Array, " N"]:
    """Share of the patterns that are stored, for each number of patterns on one sphere.

    Args:
        key: of patterns, starts and noise.
        beta: inverse temperature, of modern Hopfield networks.
        sizes: how many of the patterns there are, at most ``most``.
        dim: D.
        most: patterns that are drawn.
    """
    key_patterns, key_noise = jax.random.split(key)
    raw = jax.random.normal(key_patterns, (most, dim))
    patterns = dim**0.5 * raw / jnp.linalg.norm(raw, axis=1, keepdims=True)
    noise = _NOISE * jax.random.normal(key_noise, (_STARTS, dim))

    def share(size: Array) -> Array:
        weights = (jnp.arange(most) < size).astype(raw.dtype)  # an absent pattern has the weight 0
        own = jnp.arange(_STARTS) % size.astype(int)
        at = jax.lax.fori_loop(
            0, _STEPS, lambda _, v: clam.update(v, patterns, beta / 2, weights), patterns[own] + noise
        )
        apart = jnp.linalg.norm(patterns[own, None] - patterns, axis=-1)
        others = (weights > 0) & (jnp.arange(most) != own[:, None])
        nearest = jnp.min(jnp.where(others, apart, jnp.inf), axis=1)
        return jnp.mean(jnp.linalg.norm(at - patterns[own], axis=1) < nearest / 2, dtype=raw.dtype)

    shares: Array = jax.lax.map(share, sizes)
    return shares


def capacity(sizes: Float[np.ndarray, " N"], shares: Float[np.ndarray, " N"]) -> float:
    """The number of patterns of which half are stored, by lines in the logarithm of the number; NaN without one.

    Args:
        sizes: numbers of patterns, rising.
        shares: of stored patterns, at each of them.
    """
    below = np.flatnonzero((shares[:-1] >= 0.5) & (shares[1:] < 0.5))
    if below.size == 0:
        return float("nan")
    i = int(below[-1])
    part = (shares[i] - 0.5) / (shares[i] - shares[i + 1])
    return float(sizes[i] * (sizes[i + 1] / sizes[i]) ** part)


def crosstalk_capacity(dim: int, beta: float) -> float:
    """Patterns at which the mean of the other kernels at a pattern is its own: exp(beta D) C_D(beta D) / C_D(0)."""
    kappa = beta * dim
    ends = np.asarray(log_normalizer(dim, jnp.array([kappa, 0.0])), float)
    return float(np.exp(kappa + ends[0] - ends[1]))


def bound(dim: int, beta: float, failure: float = 0.05) -> float:
    r"""Patterns that are stored with probability 1 - p by Theorem 3 of Ramsauer et al.; NaN where it does not apply.

    .. math:: N = \sqrt p \, c^{(D-1)/4}, \quad c = b / W_0(e^{a + \log b}), \quad b = \tfrac{2}{5} K^2 \beta, \quad
              a = \tfrac{2}{D-1} (1 + \log(2 \beta K^2 p (D-1)))

    for patterns on the sphere of radius \(K \sqrt{D - 1}\), here \(\sqrt D\), where
    \(c \ge (2 / \sqrt p)^{4 / (D-1)}\).

    Args:
        dim: D.
        beta: inverse temperature of modern Hopfield networks.
        failure: p.
    """
    square = dim / (dim - 1)
    a = 2 / (dim - 1) * (1 + np.log(2 * beta * square * failure * (dim - 1)))
    b = 0.4 * square * beta
    c = b / float(np.real(lambertw(np.exp(a + np.log(b)))))
    applies = c >= (2 / failure**0.5) ** (4 / (dim - 1))
    return float(failure**0.5 * c ** ((dim - 1) / 4)) if applies else float("nan")


def run(settings: Settings) -> xr.DataTree:
    """Stored shares and capacities by dimension, and by beta."""
    repeats, most = (12, 2**14) if settings.full else (4, 2**12)
    sizes = 2.0 ** np.arange(1, int(np.log2(most)) + 1)
    key, done, total = jax.random.key(settings.seed), 0, repeats * (len(_DIMS) + len(_BETAS))
    groups = {"theorem": _promised(jax.random.fold_in(key, 1), repeats, most)}
    for i, (name, pairs) in enumerate(
        {"dimension": [(dim, _BETA) for dim in _DIMS], "beta": [(_DIM, beta) for beta in _BETAS]}.items()
    ):
        shares = np.empty((len(pairs), repeats, len(sizes)))
        for j, (dim, beta) in enumerate(pairs):
            for r in range(repeats):
                settings.progress(done, total, f"D = {dim}, beta = {beta:g}")
                done += 1
                key_here = jax.random.fold_in(key, 10_000 * i + 100 * j + r)
                shares[j, r] = stored_shares(key_here, jnp.asarray(beta), jnp.asarray(sizes), dim=dim, most=most)
        groups[name] = xr.Dataset(
            {
                "share": ((name, "repeat", "size"), shares),
                "capacity": ((name, "repeat"), [[capacity(sizes, row) for row in each] for each in shares]),
                "crosstalk": (name, [crosstalk_capacity(*pair) for pair in pairs]),
            },
            coords={name: [pair[i] for pair in pairs], "size": sizes},
        )
    return xr.DataTree.from_dict(groups)


def _promised(key: Array, repeats: int, most: int) -> xr.Dataset:
    """Shares stored of the patterns that the theorem promises, and of the most that are tried."""
    bounds = [bound(*pair) for pair in _PROMISED]
    shares = np.empty((len(_PROMISED), repeats, 2))
    for j, (dim, beta) in enumerate(_PROMISED):
        sizes = jnp.asarray([np.ceil(bounds[j]), most])
        for r in range(repeats):
            key_here = jax.random.fold_in(key, 100 * j + r)
            shares[j, r] = stored_shares(key_here, jnp.asarray(beta), sizes, dim=dim, most=most)
    dims, betas = zip(*_PROMISED, strict=True)
    return xr.Dataset(
        {"share": (("pair", "repeat", "tried"), shares), "bound": ("pair", bounds)},
        coords={"dim": ("pair", list(dims)), "beta": ("pair", list(betas)), "tried": ["bound", "most"]},
        attrs={"most": most},
    )


# --- reading --------------------------------------------------------------------------------------------------


def _slopes(group: xr.Dataset, name: str, values: str = "capacity") -> Float[np.ndarray, " R"]:
    """Slopes of the logarithm against the coordinate, one a repeat."""
    logs = np.log(group[values].values).reshape(group.sizes[name], -1)
    at = group[name].values.astype(float)
    centred = at - at.mean()
    return np.asarray(centred @ logs / (centred @ centred))


@styled
def figures(tree: xr.DataTree) -> Sequence[Drawing]:
    """Stored shares against the number of patterns; capacities against dimension and beta."""
    figure = new_figure(7.4, 5.6)
    panels = figure.subplots(2, 2).ravel()
    by_dim = tree["dimension"].to_dataset()
    for i, dim in enumerate(by_dim["dimension"].values):
        mean = by_dim["share"].sel(dimension=dim).mean("repeat")
        panels[0].plot(by_dim["size"], mean, "o-", ms=3, color=MEMORY_COLOURS[i], label=f"D = {dim}")
    panels[0].set(xlabel="patterns", ylabel="share that is stored")
    log_axis(panels[0], "x", [1, 10, 100, 1000])
    for axes, name in zip(panels[1:3], ("dimension", "beta"), strict=True):
        group = tree[name].to_dataset()
        at = group[name].values
        axes.plot(at, group["capacity"], "o", ms=4, mfc="none", color=MEMORY_COLOURS[0])
        axes.plot(at, group["crosstalk"], "-", color=MEMORY_COLOURS[1], label="crosstalk = signal")
        axes.set(xlabel="D" if name == "dimension" else "beta", ylabel="capacity")
        log_axis(axes, "y", [1, 10, 100, 1000])
    promised = tree["theorem"].to_dataset()
    places = np.arange(promised.sizes["pair"])
    panels[3].plot(places, promised["bound"], "s", ms=5, color=MEMORY_COLOURS[2], label="theorem’s bound")
    tried = np.full(len(places), promised.attrs["most"])
    panels[3].plot(places, tried, "^", ms=5, color=MEMORY_COLOURS[3], label="tried")
    labels = [
        f"{int(dim)}, {beta:g}" for dim, beta in zip(promised["dim"].values, promised["beta"].values, strict=True)
    ]
    panels[3].set(xlabel="D, beta", ylabel="patterns")
    panels[3].set_xticks(places, labels)
    log_axis(panels[3], "y", [1, 10, 100, 1000, 10_000])
    for axes in panels:
        quiet(axes, grid="y")
    for axes in (panels[0], panels[1], panels[3]):
        axes.legend()
    caption = (
        "Above: share of the patterns on a sphere that are recalled from a noisy copy, and the number of which half "
        "are stored, at beta = 1; circles are sets of patterns, the line is where the other kernels add up to the "
        f"pattern’s own. Below: the same against beta, at D = {_DIM}; and what the theorem promises with a failure "
        "probability of 0.05, beside the largest number tried."
    )
    return [Drawing("capacity", figure, caption)]


def findings(tree: xr.DataTree) -> Sequence[Finding]:
    """Exponential growth, its rate, the bound, and the finite end."""
    by_dim, by_beta = (tree[name].to_dataset() for name in ("dimension", "beta"))
    rates, expected = _slopes(by_dim, "dimension"), float(_slopes(by_dim, "dimension", "crosstalk")[0])
    logs = np.log(by_dim["capacity"].values)
    bend = (logs[-1] - logs[len(logs) // 2]) - (logs[len(logs) // 2] - logs[0])
    return [
        judged(
            "The capacity is exponential (Schaeffer et al. 2024): its logarithm grows in proportion to D.",
            over_repeats(rates, f"Growth of log capacity with each dimension, at beta = {_BETA:g}", "sets of patterns"),
            (0.0, np.inf),
            "A rate of zero would have shown the opposite.",
        ),
        judged(
            "It is no power of D, whose logarithm would grow more slowly in the upper half of the dimensions: "
            f"a power that grows as much from D = {_DIMS[0]} to {_DIMS[-1]} would lose "
            f"{number(-_bend_of_a_power(by_dim, rates.mean()), 2)}.",
            over_repeats(bend, "Growth of log capacity in the upper half minus that in the lower", "sets of patterns"),
            (0.5 * _bend_of_a_power(by_dim, rates.mean()), np.inf),
            "A loss of more than half of that of a power would have shown the opposite.",
        ),
        Finding(
            f"Where the other kernels add up to the pattern’s own, log N grows by {number(expected, 3)} with each "
            f"dimension; measured {mean_with_error(rates)}. With beta it grows by "
            f"{mean_with_error(_slopes(by_beta, 'beta'))} for each unit, where "
            f"{number(float(_slopes(by_beta, 'beta', 'crosstalk')[0]), 3)} is expected. Rates that are far apart "
            "would have shown that crosstalk is not what ends storage.",
            "note",
        ),
        judged(
            f"It is finite: of {int(by_dim['size'][-1])} patterns in {_DIMS[0]} dimensions next to none is stored.",
            over_repeats(by_dim["share"].values[0, :, -1], "Share that is stored", "sets of patterns"),
            (0.0, 0.05),
            "A share above 0.05 would have shown the opposite.",
        ),
        *_against_the_bound(tree["theorem"].to_dataset()),
    ]


def _bend_of_a_power(group: xr.Dataset, rate: float) -> float:
    """Loss of growth of the power of D that grows as much over the whole range as an exponential of that rate."""
    at = group["dimension"].values.astype(float)
    low, middle, high = np.log(at[0]), np.log(at[len(at) // 2]), np.log(at[-1])
    power = rate * (at[-1] - at[0]) / (high - low)
    return float(power * ((high - middle) - (middle - low)))


def _against_the_bound(promised: xr.Dataset) -> list[Finding]:
    """What the theorem promises, and how much more there is."""
    share = promised["share"].mean("pair")
    factors = promised.attrs["most"] / promised["bound"].values
    more = mean_with_error(100 * share.sel(tried="most"))
    return [
        judged(
            "The bound of Ramsauer et al. (2021), Theorem 3, holds: of as many patterns as it promises with a failure "
            f"probability of 0.05, at {len(factors)} pairs of D and beta, all are stored.",
            over_repeats(share.sel(tried="bound").values, "Share that is stored", "sets of patterns"),
            (0.95, np.inf),
            "A share below 0.95 would have shown the opposite.",
        ),
        Finding(
            f"The bound is far from tight. With {promised.attrs['most']} patterns, {number(factors.min(), 2)} to "
            f"{number(factors.max(), 2)} times as many as it promises, {more} % are "
            "stored. A share of one half or less would have shown that the capacity is near the bound.",
            "note",
        ),
    ]


def tables(tree: xr.DataTree) -> Sequence[str]:
    """Capacities by dimension and by beta."""
    made = []
    for name, head in (("dimension", "D"), ("beta", "beta")):
        group = tree[name].to_dataset()
        rows = [
            [
                f"{at:g}",
                mean_with_error(group["capacity"].sel({name: at})),
                number(float(group["crosstalk"].sel({name: at})), 3),
            ]
            for at in group[name].values
        ]
        fixed = f"beta = {_BETA:g}" if name == "dimension" else f"D = {_DIM}"
        header = [head, "capacity", "crosstalk = signal"]
        made.append(table(header, rows, caption=f"Patterns of which half are stored, {fixed}"))
    promised = tree["theorem"].to_dataset()
    shares = promised["share"].mean("repeat")
    rows = [
        [f"{int(dim)}", f"{beta:g}", number(float(promised["bound"][j]), 3), *(number(float(x), 3) for x in shares[j])]
        for j, (dim, beta) in enumerate(zip(promised["dim"].values, promised["beta"].values, strict=True))
    ]
    header = ["D", "beta", "theorem’s bound", "stored of so many", f"stored of {promised.attrs['most']}"]
    return [*made, table(header, rows, caption="What the theorem promises, and the share that is stored")]


KERNEL_DENSITY_CAPACITY = register(
    Experiment(
        name="kernel_density_capacity",
        title="Capacity of a Gaussian kernel density estimate",
        question="How many patterns on a sphere have an attractor of their own in a Gaussian kernel density estimate?",
        source="Schaeffer et al. (2024), Bridging associative memory and probabilistic modeling, arXiv:2402.10202; "
        "Ramsauer et al. (2021), arXiv:2008.02217, Theorem 3",
        claims=("A3", "B11"),
        words=("beta", "attractor", "standard error"),
        run=run,
        figures=figures,
        findings=findings,
        tables=tables,
    )
)
