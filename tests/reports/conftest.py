"""Genuine small fits for the reports: a blocked Gibbs sampler and an EM, both written here in plain NumPy.

They share no code with the engines; their draws are real draws, so that the pages that the tests look at are
pages that a user might see.
"""

from typing import NamedTuple

import numpy as np
import pytest
import xarray as xr
from scipy import stats
from scipy.special import logsumexp

from probam.reports.partition import coclustering, point_partition, relabel
from probam.reports.tree import Variables, build_tree

LIMIT = 8
THIN = 16
COLUMNS = ["length <mm>", "mass & co."]
CENTER, SCALE = np.array([20.0, 150.0]), np.array([4.0, 30.0])


class Draws(NamedTuple):
    """Draws of a truncated DP mixture of isotropic Gaussians, chain and draw first, in model units."""

    loc: np.ndarray
    beta: np.ndarray
    weights: np.ndarray
    sticks: np.ndarray
    alpha: np.ndarray
    labels: np.ndarray
    responsibilities: np.ndarray
    lp: np.ndarray
    log_lik: np.ndarray
    pointwise: np.ndarray


def simulated(rng: np.random.Generator) -> np.ndarray:
    """66 rows in model units: three groups of unequal size."""
    centres = np.array([[-1.6, -0.6], [1.0, 1.3], [1.1, -1.3]])
    which = rng.choice(3, size=66, p=[0.5, 0.3, 0.2])
    return centres[which] + rng.normal(size=(66, 2)) * 0.3


def log_components(x: np.ndarray, loc: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """Log N(x | loc_k, I / (2 beta_k)), shape (N, K); beta is (K,) or one number."""
    squares = ((x[:, None, :] - loc) ** 2).sum(axis=-1)
    return x.shape[1] / 2 * np.log(beta / np.pi) - beta * squares


def gibbs(x: np.ndarray, rng: np.random.Generator, *, warmup: int, draws: int, thin: int) -> dict[str, np.ndarray]:
    """One chain of the blocked Gibbs sampler (Ishwaran and James 2001) with Gamma(2, 4) on alpha.

    Priors: loc_k ~ N(0, I), one beta ~ Gamma(6, 1), V_k ~ Beta(1, alpha).
    """
    (num_data, dim), k = x.shape, LIMIT
    loc, beta = rng.normal(size=(k, dim)), 2.0
    weights, alpha = np.full(k, 1 / k), 1.0
    kept: dict[str, list] = {name: [] for name in Draws._fields}
    for step in range(warmup + draws * thin):
        joint = np.log(weights) + log_components(x, loc, beta)
        resp = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
        z = np.minimum((resp.cumsum(axis=1) < rng.random((num_data, 1))).sum(axis=1), k - 1)
        onehot = np.eye(k)[z]
        counts = onehot.sum(axis=0)
        precision = 1.0 + 2 * beta * counts
        noise = rng.normal(size=(k, dim))
        loc = 2 * beta * (onehot.T @ x) / precision[:, None] + noise / np.sqrt(precision)[:, None]
        beta = rng.gamma(6 + dim / 2 * num_data) / (1 + ((x - loc[z]) ** 2).sum())
        for i, j in rng.integers(0, k, size=(6, 2)):  # label swaps (Papaspiliopoulos and Roberts 2008)
            if np.log(rng.random()) < (counts[j] - counts[i]) * (np.log(weights[i]) - np.log(weights[j])):
                for values in (loc, counts):
                    values[[i, j]] = values[[j, i]]
        later = counts[::-1].cumsum()[::-1] - counts
        sticks = np.clip(rng.beta(1 + counts[:-1], alpha + later[:-1]), 1e-12, 1 - 1e-12)
        left = np.concatenate([[1.0], np.cumprod(1 - sticks)])
        weights = np.concatenate([sticks, [1.0]]) * left
        alpha = rng.gamma(2 + k - 1) / (4 - np.log1p(-sticks).sum())
        if step >= warmup and step % thin == 0:
            joint = np.log(weights) + log_components(x, loc, beta)
            pointwise = logsumexp(joint, axis=1)
            log_prior = (
                stats.norm.logpdf(loc).sum()
                + stats.gamma.logpdf(beta, 6)
                + stats.beta.logpdf(sticks, 1, alpha).sum()
                + stats.gamma.logpdf(alpha, 2, scale=0.25)
            )
            values = (loc, beta, weights, sticks, alpha, z, np.exp(joint - pointwise[:, None]))
            for name, value in zip(Draws._fields[:7], values, strict=True):
                kept[name].append(value)
            kept["lp"].append(pointwise.sum() + log_prior)
            kept["log_lik"].append(pointwise.sum())
            kept["pointwise"].append(pointwise)
    return {name: np.stack(values) for name, values in kept.items()}


def flat(values: np.ndarray) -> np.ndarray:
    """Chain and draw joined."""
    return values.reshape(-1, *values.shape[2:])


def recall_from(queries: np.ndarray, loc: np.ndarray, beta: np.ndarray, weights: np.ndarray, steps: int) -> np.ndarray:
    """Fixed-point recall v <- sum_k r_k(v) loc_k, (Q, steps + 1, D)."""
    path = [queries]
    for _ in range(steps):
        joint = np.log(weights) + log_components(path[-1], loc, beta)
        path.append(np.exp(joint - logsumexp(joint, axis=1, keepdims=True)) @ loc)
    return np.stack(path, axis=1)


def energy(x: np.ndarray, loc: np.ndarray, beta: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Minus the log density of the mixture."""
    return -logsumexp(np.log(weights) + log_components(x, loc, beta), axis=1)


def nearest(x: np.ndarray, loc: np.ndarray) -> np.ndarray:
    return ((x[:, None, :] - loc) ** 2).sum(axis=-1).argmin(axis=1)


def landscape(rng: np.random.Generator, memories: dict[str, np.ndarray], x: np.ndarray) -> Variables:
    """The recall group of a plug-in mixture: landscape, basins, trajectories. The plane is in model units."""
    loc, beta, weights = memories["loc"], memories["beta"], memories["weights"]

    def responsible(points: np.ndarray) -> np.ndarray:
        return (np.log(weights) + log_components(points, loc, beta)).argmax(axis=1)

    low, high = x.min(axis=0) - 0.8, x.max(axis=0) + 0.8
    grid_x, grid_y = np.linspace(low[0], high[0], 61), np.linspace(low[1], high[1], 53)
    points = np.stack(np.meshgrid(grid_x, grid_y), axis=-1).reshape(-1, 2)
    queries = x[rng.choice(len(x), 9, replace=False)] + rng.normal(size=(9, 2)) * 0.5
    path = recall_from(queries, loc, beta, weights, 400)
    steps = path[:, :25]
    shape = (len(grid_y), len(grid_x))
    return {
        "query": (CENTER + SCALE * queries, ("query", "feature")),
        "trajectory": (CENTER + SCALE * steps, ("query", "step", "feature")),
        "energy": (energy(steps.reshape(-1, 2), loc, beta, weights).reshape(9, 25), ("query", "step")),
        "converged": (np.abs(path[:, -1] - path[:, -2]).max(axis=1) < 1e-8, ("query",)),
        "basin": (responsible(path[:, -1]), ("query",)),
        "responsible": (responsible(queries), ("query",)),
        "nearest": (nearest(queries, loc), ("query",)),
        "attractor": (CENTER + SCALE * np.unique(path[:, -1].round(4), axis=0), ("attractor", "feature")),
        "datum_basin": (responsible(recall_from(x, loc, beta, weights, 400)[:, -1]), ("row",)),
        "datum_responsible": (responsible(x), ("row",)),
        "datum_row": (np.arange(len(x)), ("row",)),
        "grid_x": (grid_x, ("grid_x",)),
        "grid_y": (grid_y, ("grid_y",)),
        "grid_energy": (energy(points, loc, beta, weights).reshape(shape), ("grid_y", "grid_x")),
        "grid_basin": (
            responsible(recall_from(points, loc, beta, weights, 400)[:, -1]).reshape(shape),
            ("grid_y", "grid_x"),
        ),
        "grid_responsible": (responsible(points).reshape(shape), ("grid_y", "grid_x")),
        "plane_origin": (np.zeros(2), ("feature",)),
        "axis": (np.eye(2), ("axis", "feature")),
    }


def checked(rng: np.random.Generator, memories: dict[str, np.ndarray]) -> Variables:
    """Two checks with real errors: the energy against SciPy's densities, and descent along recall."""
    loc, beta, weights = memories["loc"], memories["beta"], memories["weights"]
    x = rng.normal(size=(50, 2)) * 2
    parts = [
        np.log(w) + stats.multivariate_normal.logpdf(x, m, np.eye(2) / (2 * beta))
        for w, m in zip(weights, loc, strict=True)
    ]
    difference = np.abs(energy(x, loc, beta, weights) + logsumexp(np.stack(parts), axis=0)).max()
    path = recall_from(x, loc, beta, weights, 30)
    rise = np.diff(np.stack([energy(path[:, t], loc, beta, weights) for t in range(31)]), axis=0).max()
    errors, tolerances = np.array([difference, max(rise, 0.0)]), np.array([1e-10, 1e-10])
    return {
        "relation": (np.array(["energy = -log density", "recall never climbs"]), ("check",)),
        "witnesses": (np.array(["hand-written energy, scipy.stats", "successive energies"]), ("check",)),
        "error": (errors, ("check",)),
        "tolerance": (tolerances, ("check",)),
        "passed": (errors <= tolerances, ("check",)),
    }


def truncation_error(rng: np.random.Generator, num_data: int) -> dict[str, float]:
    """CLAIMS A20 by Monte Carlo over the prior: what the sticks leave, and the sharper total variation bound."""
    alpha = rng.gamma(2, 1 / 4, size=(20000, 1))
    rest = np.prod(1 - rng.beta(1, alpha, size=(20000, LIMIT)), axis=1)
    two = 1 - (1 - rest) ** num_data - num_data * rest * (1 - rest) ** (num_data - 1)
    return {"expected_remaining": float(rest.mean()), "tv_bound": float(two.mean())}


@pytest.fixture(scope="session")
def draws() -> Draws:
    x = simulated(np.random.default_rng(7))
    chains = [gibbs(x, np.random.default_rng(seed), warmup=300, draws=400, thin=THIN) for seed in (11, 12, 13, 14)]
    return Draws(*(np.stack([chain[name] for chain in chains]) for name in Draws._fields))


@pytest.fixture(scope="session")
def posterior_tree(draws: Draws) -> xr.DataTree:
    """A DP mixture of 66 data in two features: the tree of a fit with four chains."""
    rng = np.random.default_rng(3)
    x = simulated(np.random.default_rng(7))
    labels, resp = flat(draws.labels), flat(draws.responsibilities)
    point = point_partition(labels)
    order = relabel(resp, point)
    loc = np.take_along_axis(flat(draws.loc), order[:, :, None], axis=1)
    weights = np.take_along_axis(flat(draws.weights), order, axis=1)
    beta = flat(draws.beta)
    aligned = np.take_along_axis(resp, order[:, None, :], axis=2)
    occupied = (labels[:, :, None] == order[:, None, :]).any(axis=1)
    best = int(flat(draws.lp).argmax())
    plug_in = {"loc": loc[best], "beta": beta[best], "weights": weights[best]}
    held = np.where((occupied | ~occupied.any(axis=0))[:, :, None], loc, np.nan)  # a memory, where it holds data

    chosen = rng.choice(len(labels), 60, replace=False)
    replicated = np.empty((1, 60, len(x), 2))
    for row, s in enumerate(chosen):
        z = rng.choice(LIMIT, size=len(x), p=flat(draws.weights)[s])
        spread = 1 / np.sqrt(2 * flat(draws.beta)[s])
        replicated[0, row] = flat(draws.loc)[s][z] + rng.normal(size=x.shape) * spread

    similar = coclustering(labels)
    pairs = [np.unravel_index(np.abs(similar - level).argmin(), similar.shape) for level in (0.2, 0.6, 0.9)]
    probes = np.array([[0.0, 0.0], [1.0, -1.0]])
    probe_energy = np.stack(
        [
            [energy(probes, *each) for each in zip(*chain, strict=True)]
            for chain in zip(draws.loc, draws.beta, draws.weights, strict=True)
        ]
    )
    together = np.stack(
        [(draws.responsibilities[:, :, i] * draws.responsibilities[:, :, j]).sum(-1) for i, j in pairs], axis=-1
    )
    occupied_count = np.array([[len(np.unique(z)) for z in chain] for chain in draws.labels])
    cd = ("chain", "draw")
    return build_tree(
        attributes={
            "probam_version": "0.1.0",
            "family": "gaussian",
            "family_options": {"covariance": "isotropic"},
            "weights": "dp",
            "weights_options": {"alpha": "Gamma(2, 4)"},
            "num_components": LIMIT,
            "engine": "gibbs",
            "engine_options": {"num_warmup": 300, "num_draws": 400, "num_chains": 4},
            "seed": 11,
            "seconds": 1.61803,
            "dtype": "float64",
            "source": "simulated <three> groups.csv",
            "model": "a Dirichlet process mixture of isotropic Gaussians, truncated at 8",
            "truncation": truncation_error(rng, len(x)),
            "versions": {"python": "3.11", "numpy": np.__version__},
        },
        data=CENTER + SCALE * x,
        columns=COLUMNS,
        center=CENTER,
        scale=SCALE,
        posterior={
            "loc": (draws.loc, (*cd, "memory", "feature")),
            "beta": (draws.beta, cd),
            "weights": (draws.weights, (*cd, "memory")),
            "sticks": (draws.sticks, (*cd, "stick")),
            "alpha": (draws.alpha, cd),
        },
        sample_stats={"lp": (draws.lp, cd)},
        invariant={
            "log_lik": (draws.log_lik, cd),
            "num_occupied": (occupied_count, cd),
            "weight_entropy": (-(draws.weights * np.log(draws.weights)).sum(axis=-1), cd),
            "largest_weight": (draws.weights.max(axis=-1), cd),
            "probe_energy": (probe_energy, (*cd, "probe")),
            "together": (together, (*cd, "pair")),
        },
        log_likelihood={"x": (draws.pointwise, (*cd, "datum"))},
        posterior_predictive={"x": (CENTER + SCALE * replicated, (*cd, "datum", "feature"))},
        memory={
            "mean": (CENTER + SCALE * np.nanmean(held, axis=0), ("memory", "feature")),
            "mean_sd": (SCALE * np.nanstd(held, axis=0), ("memory", "feature")),
            "mean_q05": (CENTER + SCALE * np.nanquantile(held, 0.05, axis=0), ("memory", "feature")),
            "mean_q95": (CENTER + SCALE * np.nanquantile(held, 0.95, axis=0), ("memory", "feature")),
            "sd": (np.broadcast_to(SCALE * (1 / np.sqrt(2 * beta)).mean(), (LIMIT, 2)), ("memory", "feature")),
            "weight": (weights.mean(axis=0), ("memory",)),
            "weight_sd": (weights.std(axis=0), ("memory",)),
            "occupied": (occupied.mean(axis=0), ("memory",)),
            "size": (aligned.sum(axis=1).mean(axis=0), ("memory",)),
        },
        partition={
            "coclustering": (similar, ("row", "row_bis")),
            "label": (point, ("datum",)),
            "confidence": (aligned.mean(axis=0)[np.arange(len(x)), point], ("datum",)),
        },
        recall=landscape(rng, plug_in, x),
        verification=checked(rng, plug_in),
        coordinates={"check": ["A2", "descent"]},
        group_attributes={"partition": {"loss": "vi"}},
    )


@pytest.fixture(scope="session")
def em_tree() -> xr.DataTree:
    """Maximum likelihood for 30 features: one chain, one draw, five restarts of EM."""
    rng = np.random.default_rng(8)
    centres = rng.normal(size=(3, 30)) * 2
    x = centres[rng.choice(3, size=90, p=[0.4, 0.35, 0.25])] + rng.normal(size=(90, 30))
    runs = []
    for _ in range(5):
        loc, beta, weights = x[rng.choice(90, 3, replace=False)], np.full(3, 0.1), np.full(3, 1 / 3)
        trace = []
        for _ in range(40):
            joint = np.log(weights) + log_components(x, loc, beta)
            trace.append(logsumexp(joint, axis=1).sum())
            if len(trace) > 1 and trace[-1] - trace[-2] < 1e-9 * abs(trace[-1]):
                break
            resp = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
            counts = resp.sum(axis=0)
            weights, loc = counts / 90, resp.T @ x / counts[:, None]
            squares = (((x[:, None, :] - loc) ** 2).sum(axis=-1) * resp).sum(axis=0)
            beta = 30 * counts / (2 * squares)
        runs.append((trace, loc, beta, weights))
    steps = max(len(run[0]) for run in runs)
    objective = np.full((5, steps), np.nan)
    for row, run in enumerate(runs):
        objective[row, : len(run[0])] = run[0]
    trace, loc, beta, weights = max(runs, key=lambda run: run[0][-1])
    one = (None, None)
    joint = np.log(weights) + log_components(x, loc, beta)
    cd = ("chain", "draw")
    return build_tree(
        attributes={
            "probam_version": "0.1.0",
            "family": "gaussian",
            "weights": "dirichlet",
            "num_components": 3,
            "engine": "em",
            "seed": 8,
            "seconds": 0.012,
            "source": "simulated",
            "model": "a mixture of three isotropic Gaussians",
        },
        data=x,
        columns=[f"f{i}" for i in range(30)],
        center=np.zeros(30),
        scale=np.ones(30),
        posterior={
            "loc": (loc[one], (*cd, "memory", "feature")),
            "beta": (beta[one], (*cd, "memory")),
            "weights": (weights[one], (*cd, "memory")),
        },
        sample_stats={"lp": (np.array([[trace[-1]]]), cd)},
        optimisation={"objective": (objective, ("restart", "iteration"))},
        invariant={"num_occupied": (np.array([[len(np.unique(joint.argmax(axis=1)))]]), cd)},
        memory={
            "mean": (loc, ("memory", "feature")),
            "sd": (np.repeat(1 / np.sqrt(2 * beta)[:, None], 30, axis=1), ("memory", "feature")),
            "weight": (weights, ("memory",)),
            "occupied": (np.ones(3), ("memory",)),
            "size": (90 * weights, ("memory",)),
        },
        partition={"label": (joint.argmax(axis=1), ("datum",))},
        group_attributes={"optimisation": {"status": "converged", "what": "log likelihood"}},
    )
