"""Genuine small fits for the reports: a blocked Gibbs sampler, recall and landscapes, in plain NumPy.

They share no code with the engines; their draws are real draws, so that the pages that the tests look at are
pages that a user might see.
"""

from typing import NamedTuple

import numpy as np
from scipy import stats
from scipy.special import logsumexp

from probam.reports.tree import Variables

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
    """Log N(x | loc_k, I / (2 beta)), shape (..., N, K) for loc (..., K, D) and beta (...)."""
    squares = ((x[:, None, :] - loc[..., None, :, :]) ** 2).sum(axis=-1)
    beta = np.asarray(beta)[..., None, None]
    return np.asarray(x.shape[1] / 2 * np.log(beta / np.pi) - beta * squares)


def gibbs(x: np.ndarray, rng: np.random.Generator, *, chains: int, warmup: int, draws: int, thin: int) -> Draws:
    """The blocked Gibbs sampler (Ishwaran and James 2001), all chains side by side, Gamma(2, 4) on alpha.

    Priors: loc_k ~ N(0, I), one beta ~ Gamma(6, 1), V_k ~ Beta(1, alpha).
    """
    (num_data, dim), k = x.shape, LIMIT
    every = np.arange(chains)
    loc, beta = rng.normal(size=(chains, k, dim)), np.full(chains, 2.0)
    weights, alpha = np.full((chains, k), 1 / k), np.ones(chains)
    kept: dict[str, list[np.ndarray]] = {name: [] for name in Draws._fields}
    for step in range(warmup + draws * thin):
        joint = np.log(weights)[:, None, :] + log_components(x, loc, beta)
        resp = np.exp(joint - joint.max(axis=-1, keepdims=True)).cumsum(axis=-1)
        z = (resp < resp[..., -1:] * rng.random((chains, num_data, 1))).sum(axis=-1)
        onehot = np.eye(k)[z]
        counts = onehot.sum(axis=1)
        precision = 1.0 + 2 * beta[:, None] * counts
        centre = 2 * beta[:, None, None] * (onehot.transpose(0, 2, 1) @ x) / precision[..., None]
        loc = centre + rng.normal(size=loc.shape) / np.sqrt(precision)[..., None]
        squares = ((x - loc[every[:, None], z]) ** 2).sum(axis=(1, 2))
        beta = rng.gamma(6 + dim / 2 * num_data, size=chains) / (1 + squares)
        for i, j in rng.integers(0, k, size=(6, 2)):  # label swaps (Papaspiliopoulos and Roberts 2008)
            gain = (counts[:, j] - counts[:, i]) * (np.log(weights[:, i]) - np.log(weights[:, j]))
            accepted = np.log(rng.random(chains)) < gain
            for values in (loc, counts):
                values[np.ix_(accepted, [i, j])] = values[np.ix_(accepted, [j, i])]
        later = counts[:, ::-1].cumsum(axis=1)[:, ::-1] - counts
        sticks = np.clip(rng.beta(1 + counts[:, :-1], alpha[:, None] + later[:, :-1]), 1e-12, 1 - 1e-12)
        left = np.concatenate([np.ones((chains, 1)), np.cumprod(1 - sticks, axis=1)], axis=1)
        weights = np.concatenate([sticks, np.ones((chains, 1))], axis=1) * left
        alpha = rng.gamma(2 + k - 1, size=chains) / (4 - np.log1p(-sticks).sum(axis=1))
        if step >= warmup and step % thin == 0:
            joint = np.log(weights)[:, None, :] + log_components(x, loc, beta)
            pointwise = logsumexp(joint, axis=-1)
            log_prior = (
                stats.norm.logpdf(loc).sum(axis=(1, 2))
                + stats.gamma.logpdf(beta, 6)
                + stats.beta.logpdf(sticks, 1, alpha[:, None]).sum(axis=1)
                + stats.gamma.logpdf(alpha, 2, scale=0.25)
            )
            responsibilities = np.exp(joint - pointwise[..., None])
            z = (responsibilities.cumsum(axis=-1) < rng.random((chains, num_data, 1))).sum(axis=-1).clip(max=k - 1)
            values = (loc.copy(), beta, weights, sticks, alpha, z, responsibilities)
            total = pointwise.sum(axis=1)
            for name, value in zip(Draws._fields, (*values, total + log_prior, total, pointwise), strict=True):
                kept[name].append(value)
    return Draws(**{name: np.stack(values, axis=1) for name, values in kept.items()})


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
    return np.asarray(((x[:, None, :] - loc) ** 2).sum(axis=-1).argmin(axis=1))


def landscape(rng: np.random.Generator, memories: dict[str, np.ndarray], x: np.ndarray) -> Variables:
    """The recall group of a plug-in mixture: landscape, basins, trajectories. The plane is in model units."""
    loc, beta, weights = memories["loc"], memories["beta"], memories["weights"]

    def responsible(points: np.ndarray) -> np.ndarray:
        return np.asarray((np.log(weights) + log_components(points, loc, beta)).argmax(axis=1))

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
