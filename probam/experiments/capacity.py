r"""How many random memories a classical Hopfield network stores: Hebb’s rule and the pseudo-inverse (claims B4, B6).

Random memories of signs are stored and recalled one neuron at a time. Under Hebb’s rule, recall from a memory itself
stays close to it up to a critical load \(\alpha_c = K / N\) and then abruptly leaves it: 0.138 for large N (Amit,
Gutfreund and Sompolinsky 1985). The pseudo-inverse stores every one of K < N independent memories; here the question is
how much noise it removes.
"""

from collections.abc import Sequence

import jax
import numpy as np
import xarray as xr
from jaxtyping import Float
from scipy.optimize import minimize
from scipy.special import erf

from probam.dynamics.discrete import asynchronous, synchronous, update
from probam.energies import hopfield
from probam.experiments.experiment import Drawing, Experiment, Settings, register
from probam.experiments.finding import Finding, Measured, judged, standard_errors
from probam.reports.figures.style import INK, MEMORY_COLOURS, MUTED, new_figure, quiet, styled
from probam.reports.page import number, percent, table, with_error

__all__ = ["CAPACITY", "critical_load", "sharpening", "theory"]

_PRINTED = 0.138
_BETWEEN = (0.5, 0.9)
"""Overlaps that recall never ends with in the limit of large N: it ends above .96 or below .5."""
_RETRIEVED = 0.7
"""Final overlap above which a memory counts as retrieved: near 0.97 below the transition, near 0.35 above it."""
_NOISE = 0.1
"""Share of neurons flipped in the queries of a pseudo-inverse network."""
_QUERIES = 10
_ONE_BY_ONE = 400
"""Largest network whose neurons are also updated one by one, which takes many times longer."""
_ORDERS = ("all at once", "one by one")
_HEBB = "Hebb’s rule"


def critical_load(
    loads: Float[np.ndarray, " L"], retrieved: Float[np.ndarray, "L T"], *, key: np.random.Generator, draws: int = 200
) -> tuple[float, float]:
    """Load at which half of the memories are retrieved, and its standard error.

    A logistic curve in the load, by maximum likelihood; the error is a bootstrap over the networks of every load.

    Args:
        loads: K / N.
        retrieved: share of the memories that each of T networks retrieves, at every load.
        key: for the bootstrap.
        draws: of the bootstrap.
    """

    def midpoint(shares: Float[np.ndarray, " L"]) -> float:
        def loss(at: np.ndarray) -> float:
            logits = -np.exp(at[1]) * (loads - at[0])
            return float(np.sum(np.logaddexp(0, logits) - shares * logits))

        return float(minimize(loss, np.array([loads.mean(), np.log(200.0)]), method="Nelder-Mead").x[0])

    num_networks = retrieved.shape[1]
    chosen = key.integers(num_networks, size=(draws, len(loads), num_networks))
    resampled = np.take_along_axis(retrieved[None], chosen, axis=2).mean(axis=2)
    return midpoint(retrieved.mean(axis=1)), float(np.std([midpoint(shares) for shares in resampled], ddof=1))


def theory(num_points: int = 200) -> tuple[Float[np.ndarray, " P"], Float[np.ndarray, " P"]]:
    r"""Loads and overlaps of retrieval in the limit of large N, from small loads to the critical one.

    Amit, Gutfreund and Sompolinsky (1985) without noise: with \(y = m / \sqrt{2 \alpha r}\) the overlap is
    \(m = {\rm erf}(y)\) and the load \(\alpha = \tfrac12 ({\rm erf}(y) / y - 2 e^{-y^2} / \sqrt\pi)^2\), which has its
    maximum, 0.138, at m = 0.967.

    Args:
        num_points: P.

    >>> loads, overlaps = theory()
    >>> round(float(loads[-1]), 4), round(float(overlaps[-1]), 3)
    (0.1379, 0.967)
    """

    def load(y: Float[np.ndarray, " P"]) -> Float[np.ndarray, " P"]:
        return np.asarray(0.5 * (erf(y) / y - 2 * np.exp(-(y**2)) / np.sqrt(np.pi)) ** 2)

    y = np.linspace(4.0, 1.0, 20_000)
    loads = load(y)
    chosen = np.linspace(0, int(loads.argmax()), num_points).astype(int)
    return loads[chosen], np.asarray(erf(y[chosen]))


def sharpening(
    sizes: Sequence[int], between: Sequence[Float[np.ndarray, " T"]], rng: np.random.Generator, draws: int = 500
) -> tuple[float, float]:
    """Slope of the log share of overlaps in between against log N, and its standard error by a bootstrap.

    Half a memory is added to both sides of each share, so that a share of zero has a logarithm.

    Args:
        sizes: N.
        between: for each size the number of overlaps in between, of the memories of every network.
        rng: for the bootstrap over networks.
        draws: of the bootstrap.
    """

    def slope(counts: Sequence[Float[np.ndarray, " T"]]) -> float:
        total = np.array([count.size * _QUERIES for count in counts])
        hits = np.array([count.sum() for count in counts])
        weights = np.sqrt(hits + 0.5)  # about 1 / standard error of a log share
        return float(np.polyfit(np.log(sizes), np.log((hits + 0.5) / (total + 1)), 1, w=weights)[0])

    resampled = [slope([rng.choice(count, count.size) for count in between]) for _ in range(draws)]
    return slope(between), float(np.std(resampled, ddof=1))


def run(settings: Settings) -> xr.DataTree:
    """Overlaps after recall against load and size, and the pseudo-inverse against load."""
    sizes = [400, 800, 1600, 3200, 6400] if settings.full else [400, 800, 1600, 3200]
    networks = [40, 30, 20, 10, 5] if settings.full else [10, 8, 5, 3]
    spread = np.linspace(-0.8, 0.8, 9 if settings.full else 6)
    loads = np.array([0.14 + 2 * size ** (-2 / 3) + spread / np.sqrt(size) for size in sizes])
    key = jax.random.key(settings.seed)
    total = loads.size + 10
    overlap = np.full((len(_ORDERS), *loads.shape, max(networks), _QUERIES), np.nan)
    estimates = []
    for i, (size, count) in enumerate(zip(sizes, networks, strict=True)):
        for j, load in enumerate(loads[i]):
            settings.progress(i * len(spread) + j, total, f"Hebb’s rule, {size} neurons, load {load:.3f}")
            for t in range(count):
                own = jax.random.fold_in(jax.random.fold_in(jax.random.fold_in(key, size), j), t)
                overlap[:, i, j, t] = _hebb_overlaps(own, size, round(float(load) * size))
        shares = np.mean(overlap[0, i, :, :count] > _RETRIEVED, axis=-1)
        estimates.append(critical_load(loads[i], shares, key=np.random.default_rng([settings.seed, size])))
    hebb = xr.Dataset(
        {
            "load": (("size", "point"), loads),
            "overlap": (("order", "size", "point", "network", "query"), overlap),
            "critical_load": ("size", [load_at_half for load_at_half, _ in estimates]),
            "critical_load_error": ("size", [error for _, error in estimates]),
        },
        coords={"order": list(_ORDERS), "size": sizes},
        attrs={"retrieved_above": _RETRIEVED},
    )
    hebb["overlap"].attrs["long_name"] = "overlap of the recalled state with the memory it started from"
    hebb["critical_load"].attrs["long_name"] = "load at which half of the memories are retrieved, all at once"
    pseudo = _pseudo_inverse(settings, loads.size, total)
    return xr.DataTree.from_dict({"hebb": hebb, "pseudo_inverse": pseudo})


def _hebb_overlaps(key: jax.Array, size: int, count: int) -> Float[np.ndarray, "2 Q"]:
    """Overlaps by either order of updates; one by one only in small networks, NaN in others."""
    key_memories, key_run = jax.random.split(key)
    memories = jax.random.rademacher(key_memories, (count, size), np.float32)  # all sums are whole: exact in float32
    queries = memories[:_QUERIES]
    network = hopfield.Network(hopfield.couplings(memories))
    ends = [synchronous(network, queries, max_steps=100).states]
    if size <= _ONE_BY_ONE:
        ends.append(asynchronous(network, queries, key=key_run, max_sweeps=200).states)
    overlaps = np.full((len(_ORDERS), _QUERIES), np.nan)
    for row, end in enumerate(ends):
        overlaps[row] = np.mean(np.asarray(end) * np.asarray(queries), axis=1)
    return overlaps


def _pseudo_inverse(settings: Settings, done: int, total: int) -> xr.Dataset:
    size, repeats = (500, 10) if settings.full else (200, 3)
    loads = np.linspace(0.1, 1.0, 10)
    kinds = ("diagonal kept", "diagonal zero", _HEBB)
    fixed = np.empty((len(kinds), len(loads), repeats))
    undone = np.empty_like(fixed)
    key = jax.random.fold_in(jax.random.key(settings.seed), 1)
    for j, load in enumerate(loads):
        settings.progress(done + j, total, f"pseudo-inverse, {size} neurons, load {load:.1f}")
        for t in range(repeats):
            keys = jax.random.split(jax.random.fold_in(jax.random.fold_in(key, j), t), 3)
            memories = jax.random.rademacher(keys[0], (round(load * size), size), float)
            flips = 1 - 2 * jax.random.bernoulli(keys[1], _NOISE, (_QUERIES, size))
            for k, kind in enumerate(kinds):
                if kind == _HEBB:
                    couplings = hopfield.couplings(memories)
                else:
                    couplings = hopfield.pseudo_inverse_couplings(memories, diagonal=kind == "diagonal kept")
                network = hopfield.Network(couplings)
                fixed[k, j, t] = np.mean(np.all(np.asarray(update(network, memories) == memories), axis=1))
                queries = memories[:_QUERIES]
                ended = asynchronous(network, queries * flips, key=keys[2], max_sweeps=100).states
                undone[k, j, t] = np.mean(np.all(np.asarray(ended == queries), axis=1))
    return xr.Dataset(
        {"fixed": (("rule", "load", "repeat"), fixed), "recalled": (("rule", "load", "repeat"), undone)},
        coords={"rule": list(kinds), "load": loads},
        attrs={"size": size, "noise": _NOISE},
    )


# --- reading --------------------------------------------------------------------------------------------------


@styled
def figures(tree: xr.DataTree) -> Sequence[Drawing]:
    """The transition of Hebb’s rule, and the pseudo-inverse with and without its diagonal."""
    return [
        _transition_drawing(tree["hebb"].to_dataset()),
        _pseudo_inverse_drawing(tree["pseudo_inverse"].to_dataset()),
    ]


def _transition_drawing(hebb: xr.Dataset) -> Drawing:
    figure = new_figure(8.4, 3.2)
    left, right = figure.subplots(1, 2, sharex=True)
    for i, size in enumerate(hebb["size"].values):
        where, colour = hebb["load"].sel(size=size), MEMORY_COLOURS[i]
        for order, marker, line in zip(_ORDERS, "ox", ("-", ":"), strict=True):
            values = hebb["overlap"].sel(size=size, order=order)
            if values.notnull().any():
                networks = (values > _RETRIEVED).where(values.notnull()).mean("query")
                label = f"{size} neurons" if order == _ORDERS[0] else None
                mean, error = _mean_and_error(networks)
                left.errorbar(
                    where, mean, error, color=colour, label=label, marker=marker, ms=4, ls=line, elinewidth=0.8
                )
        mean, error = _mean_and_error(hebb["overlap"].sel(size=size, order=_ORDERS[0]).mean("query"))
        right.errorbar(where, mean, error, color=colour, marker="o", ms=4, elinewidth=0.8)
    loads, overlaps = theory()
    seen = loads >= float(hebb["load"].min()) - 0.01
    right.plot(loads[seen], overlaps[seen], color=INK, lw=1.4, label="theory, large N")
    right.plot([loads[-1]] * 2, [overlaps[-1], 0.35], color=INK, lw=1.0, ls=":")
    left.axvline(_PRINTED, color=MUTED, lw=0.9, ls="--")
    left.set_ylim(0, 1.05)
    left.text(_PRINTED, 0.05, "0.138 ", color=MUTED, ha="right", va="bottom")
    left.set_ylabel("share of memories retrieved")
    right.set_ylabel("mean overlap after recall")
    for axes in (left, right):
        axes.set_xlabel("load K / N")
        quiet(axes, grid="y")
        axes.legend()
    caption = (
        f"Hebb’s rule, recall from a memory itself. Left: memories whose recall ends with an overlap above "
        f"{_RETRIEVED:g}; dots with all neurons updated at once, crosses one by one; dashed: the load that the slides "
        "print. Right: mean overlap, and the curve of Amit, Gutfreund and Sompolinsky (1985) for large N, which ends "
        "at the critical load. Bars are standard errors over networks. In larger networks the transition moves left "
        "and steepens."
    )
    return Drawing("transition", figure, caption)


def _mean_and_error(networks: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over networks and its standard error, by load."""
    return networks.mean("network").values, standard_errors(networks, "network").values


def _pseudo_inverse_drawing(pseudo: xr.Dataset) -> Drawing:
    figure = new_figure(7.0, 3.2)
    axes = figure.subplots()
    for i, rule in enumerate(pseudo["rule"].values):
        at, label = pseudo.sel(rule=rule).mean("repeat"), str(rule)
        error = standard_errors(pseudo["recalled"].sel(rule=rule), "repeat")
        axes.errorbar(
            pseudo["load"],
            at["recalled"],
            error,
            marker="o",
            ms=4,
            color=MEMORY_COLOURS[i],
            label=label,
            elinewidth=0.8,
        )
        axes.plot(pseudo["load"], at["fixed"], ls=":", color=MEMORY_COLOURS[i])
    axes.set_xlabel("load K / N")
    axes.set_ylabel("share of memories")
    quiet(axes, grid="y")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    caption = (
        f"Dotted: memories that are fixed points. Lines: memories restored exactly from "
        f"{percent(float(pseudo.attrs['noise']))} of flipped neurons, {pseudo.attrs['size']} neurons. The "
        "pseudo-inverse stores all memories up to K = N, but removes less noise long before, and even earlier with its "
        "diagonal kept."
    )
    return Drawing("pseudo_inverse", figure, caption)


def _extrapolated(hebb: xr.Dataset, power: float) -> tuple[float, float]:
    """Critical load of infinitely many neurons by a weighted line in a power of 1 / N, and its error."""
    weights = 1 / hebb["critical_load_error"].values
    design = np.stack([np.ones(hebb.sizes["size"]), hebb["size"].values ** -power], axis=1) * weights[:, None]
    covariance = np.linalg.inv(design.T @ design)
    solved = covariance @ design.T @ (hebb["critical_load"].values * weights)
    return float(solved[0]), float(np.sqrt(covariance[0, 0]))


def findings(tree: xr.DataTree) -> Sequence[Finding]:
    """The two capacities that the slides print."""
    hebb, pseudo = tree["hebb"].to_dataset(), tree["pseudo_inverse"].to_dataset()
    return [
        _critical_load_finding(hebb),
        _jump_finding(hebb),
        _orders_finding(hebb),
        Finding(
            "The slides attribute 0.138 to Hopfield (1982), who found about 0.15 in simulations of small networks; "
            "0.138 is the limit of large N by Amit, Gutfreund and Sompolinsky (1985).",
            "note",
        ),
        *_fixed_point_findings(pseudo),
        _noise_finding(pseudo),
    ]


def _critical_load_finding(hebb: xr.Dataset) -> Finding:
    """Where the transition is, which two sizes of a shift cannot settle to three digits."""
    sizes = hebb["size"].values
    smallest, largest = (
        with_error(float(at["critical_load"]), float(at["critical_load_error"]))
        for at in (hebb.isel(size=0), hebb.isel(size=-1))
    )
    (least, least_error), (most, most_error) = (_extrapolated(hebb, power) for power in (0.5, 1.0))
    middle, half = (least + most) / 2, abs(most - least) / 2
    return judged(
        f"The slides print a critical load of 0.138. Half of the memories are lost at a load of {smallest} with "
        f"{sizes[0]} neurons and {largest} with {sizes[-1]}. The limit of large N is {with_error(least, least_error)} "
        f"if the shift goes as 1/√N and {with_error(most, most_error)} if it goes as 1/N.",
        Measured(
            middle,
            float(np.hypot(half, max(least_error, most_error))),
            "Critical load for large N, the mean of both extrapolations",
            "the error has half their difference, and the spread over networks",
        ),
        (_PRINTED - 0.005, _PRINTED + 0.005),
        "A limit below 0.133 or above 0.143, beyond its error, would have shown the opposite.",
    )


def _between(overlap: xr.DataArray) -> Float[np.ndarray, " T"]:
    """Memories of each network, at any load, whose recall ends in between."""
    inside = (overlap > _BETWEEN[0]) & (overlap < _BETWEEN[1])
    counts = inside.where(overlap.notnull()).sum("query", skipna=False).values.ravel()
    return np.asarray(counts[np.isfinite(counts)], float)


def _jump_finding(hebb: xr.Dataset) -> Finding:
    """Whether overlaps in between vanish with N, as at an abrupt transition, and the theory's overlap below it."""
    sizes, overlap = hebb["size"].values.tolist(), hebb["overlap"].sel(order=_ORDERS[0])
    counts = [_between(overlap.sel(size=size)) for size in sizes]
    slope, error = sharpening(sizes, counts, np.random.default_rng(0))
    shares = ", ".join(
        f"{percent(float(count.mean()) / _QUERIES)} with {size}" for count, size in zip(counts, sizes, strict=True)
    )
    largest = hebb.isel(size=-1)
    load = float(largest["load"][0])
    first = overlap.isel(size=-1, point=0)
    kept = float(first.where(first > _RETRIEVED).mean())
    loads, overlaps = theory()
    expected = float(np.interp(load, loads, overlaps))
    return judged(
        "Recall is lost abruptly: around the transition recall ends with an overlap between "
        f"{_BETWEEN[0]:g} and {_BETWEEN[1]:g} for {shares} neurons. In the largest network a retrieved memory keeps an "
        f"overlap of {number(kept, 3)} at a load of {load:.3f}; the theory for large N has {number(expected, 3)}.",
        Measured(slope, error, "Slope of the log share in between against log N", "a bootstrap over the networks"),
        (-np.inf, 0.0),
        "A share in between that stays or grows with N, as at a gradual loss, would have shown the opposite.",
    )


def _orders_finding(hebb: xr.Dataset) -> Finding:
    overlap = hebb["overlap"].sel(size=hebb["size"] <= _ONE_BY_ONE)
    flags = (overlap > _RETRIEVED).where(overlap.notnull())
    alike = float((flags.sel(order=_ORDERS[0]) == flags.sel(order=_ORDERS[1])).where(flags[0].notnull()).mean())
    return Finding(
        "It matters little whether neurons are updated all at once or one by one: in networks of up to "
        f"{_ONE_BY_ONE} neurons the outcome is the same for {percent(alike)} of the memories.",
        "note",
    )


def _fixed_point_findings(pseudo: xr.Dataset) -> list[Finding]:
    below = pseudo["fixed"].sel(load=pseudo["load"] < 0.95)
    kept, zero = (float(below.sel(rule=rule).min()) for rule in ("diagonal kept", "diagonal zero"))
    hebb_at_n = float(pseudo["fixed"].isel(load=-1).mean("repeat").sel(rule=_HEBB))
    repeats = f"{pseudo.sizes['repeat']} networks at each load"
    spread = float(pseudo["fixed"].isel(load=-1).sel(rule=_HEBB).std("repeat", ddof=1))
    return [
        judged(
            f"K = N holds for the pseudo-inverse: below it {percent(kept)} of the memories are fixed points "
            f"({percent(zero)} without the diagonal), at every load tried.",
            Measured(kept, 0.0, "Least share of fixed points below K = N", f"the worst of all loads and {repeats}"),
            (1.0, 1.0),
            "One memory that is no fixed point, at any load below 1, would have shown the opposite.",
        ),
        judged(
            "It does not hold for the energy for which the slides print it, that of Hebb’s rule: at K = N "
            f"{percent(hebb_at_n)} of the memories are fixed points.",
            Measured(hebb_at_n, spread / np.sqrt(pseudo.sizes["repeat"]), "Share of fixed points at K = N", repeats),
            (0.99, 1.0),
            "Nearly all memories as fixed points would have shown the opposite.",
        ),
    ]


def _noise_finding(pseudo: xr.Dataset) -> Finding:
    recalled = pseudo["recalled"].mean("repeat")
    at_n = float(recalled.isel(load=-1).sel(rule="diagonal kept"))
    kept, zero, hebb = (
        float(pseudo["load"].values[(recalled.sel(rule=rule) >= 0.5).values].max(initial=0))
        for rule in ("diagonal kept", "diagonal zero", _HEBB)
    )
    return Finding(
        f"At K = N the pseudo-inverse is the identity and recalls nothing: {percent(at_n)} of the memories are "
        f"restored from {percent(float(pseudo.attrs['noise']))} noise. Half of them are restored up to a load of "
        f"{kept:.1f} with the diagonal kept, {zero:.1f} without it, and {hebb:.1f} under Hebb’s rule.",
        "note",
    )


def tables(tree: xr.DataTree) -> Sequence[str]:
    """Critical loads by size, and the pseudo-inverse by load."""
    hebb, pseudo = tree["hebb"].to_dataset(), tree["pseudo_inverse"].to_dataset()
    counts = hebb["overlap"].sel(order=_ORDERS[0]).notnull().any(("point", "query")).sum("network").values
    critical = zip(hebb["critical_load"].values, hebb["critical_load_error"].values, counts, strict=True)
    rows = [
        [f"{size} neurons", with_error(float(value), float(error)), str(int(count))]
        for size, (value, error, count) in zip(hebb["size"].values, critical, strict=True)
    ]
    first = table(["size", "critical load", "networks at each load"], rows, caption="Hebb’s rule")
    means = pseudo.mean("repeat")
    rules = [str(rule) for rule in pseudo["rule"].values]
    rows = [
        [
            f"{load:.1f}",
            *(
                percent(float(means[name].sel(rule=rule, load=load)))
                for name in ("fixed", "recalled")
                for rule in rules
            ),
        ]
        for load in pseudo["load"].values
    ]
    short = ["kept", "zero", "Hebb"]
    header = ["K / N", *(f"{name}, {rule}" for name in ("fixed", "restored") for rule in short)]
    return [first, table(header, rows, caption="Memories that are fixed points, and that are restored from noise")]


CAPACITY = register(
    Experiment(
        name="capacity",
        title="Capacity of the classical Hopfield network",
        question="How many random memories do Hebb’s rule and the pseudo-inverse hold, and do the slides say so?",
        source="Yang (2020), slides on large associative memory, 'Network capacity'",
        claims=("B4", "B6"),
        words=("load", "overlap", "Hebb’s rule", "pseudo-inverse", "standard error"),
        run=run,
        figures=figures,
        findings=findings,
        tables=tables,
    )
)
