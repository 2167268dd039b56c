"""Fits that the tests of this room look at, each made once."""

import numpy as np
import pytest
import xarray as xr
from scipy.special import logsumexp

from probam.reports.summaries.partition import coclustering
from probam.reports.summaries.point_partition import point_partition
from probam.reports.summaries.relabel import from_responsibilities, relabel
from probam.reports.tree import build_tree
from tests.reports.small_fits import (
    CENTER,
    COLUMNS,
    LIMIT,
    SCALE,
    THIN,
    Draws,
    checked,
    energy,
    flat,
    gibbs,
    landscape,
    log_components,
    simulated,
    truncation_error,
    with_landscape,
)


@pytest.fixture(scope="session")
def draws() -> Draws:
    x = simulated(np.random.default_rng(7))
    return gibbs(x, np.random.default_rng(11), chains=4, warmup=300, draws=400, thin=THIN)


@pytest.fixture(scope="session")
def posterior_tree(draws: Draws) -> xr.DataTree:
    """A DP mixture of 66 data in two features: the tree of a fit with four chains."""
    rng = np.random.default_rng(3)
    x = simulated(np.random.default_rng(7))
    labels, resp = flat(draws.labels), flat(draws.responsibilities)
    point = point_partition(labels)
    order = relabel(from_responsibilities(resp, flat(draws.loc)), method="ecr", pivot=point).permutations
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
        loc, beta, weights = x[rng.choice(90, 3, replace=False)], np.array(0.1), np.full(3, 1 / 3)
        trace = []
        for _ in range(40):
            joint = np.log(weights) + log_components(x, loc, beta)
            trace.append(logsumexp(joint, axis=1).sum())
            if len(trace) > 1 and trace[-1] - trace[-2] < 1e-9 * abs(trace[-1]):
                break
            resp = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
            counts = resp.sum(axis=0)
            weights, loc = counts / 90, resp.T @ x / counts[:, None]
            beta = 30 * 90 / (2 * np.sum(((x[:, None, :] - loc) ** 2).sum(axis=-1) * resp))
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
            "beta": (np.reshape(beta, (1, 1)), cd),
            "weights": (weights[one], (*cd, "memory")),
        },
        sample_stats={"lp": (np.array([[trace[-1]]]), cd)},
        optimisation={"objective": (objective, ("restart", "iteration"))},
        invariant={"num_occupied": (np.array([[len(np.unique(joint.argmax(axis=1)))]]), cd)},
        memory={
            "mean": (loc, ("memory", "feature")),
            "sd": (np.full((3, 30), 1 / np.sqrt(2 * beta)), ("memory", "feature")),
            "weight": (weights, ("memory",)),
            "occupied": (np.ones(3), ("memory",)),
            "size": (90 * weights, ("memory",)),
        },
        partition={"label": (joint.argmax(axis=1), ("datum",))},
        group_attributes={"optimisation": {"status": "converged", "what": "log likelihood"}},
    )


@pytest.fixture(scope="session")
def line_tree() -> xr.DataTree:
    """One feature: a landscape that is a curve."""
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.normal(0, 0.3, (30, 1)), rng.normal(1.3, 0.3, (50, 1))])
    return with_landscape(x, np.array([[0.0], [1.0], [1.3]]), 6.0, np.array([0.3, 0.3, 0.4]), num_components=3)


@pytest.fixture(scope="session")
def plane_tree() -> xr.DataTree:
    """Five features, seen on the plane of the two widest directions."""
    rng = np.random.default_rng(2)
    loc = rng.normal(size=(4, 5)) * 2
    x = loc[rng.integers(0, 4, 1200)] + rng.normal(size=(1200, 5)) * 0.7
    return with_landscape(x, loc, 1.0, np.array([0.4, 0.3, 0.2, 0.1]), num_components=4)


@pytest.fixture(scope="session")
def sphere_tree() -> xr.DataTree:
    """Directions in three dimensions, some on the far side."""
    rng = np.random.default_rng(3)
    loc = np.array([[0.0, 0.0, 1.0], [0.9, 0.0, 0.436], [-0.6, -0.7, -0.387]])
    loc /= np.linalg.norm(loc, axis=1, keepdims=True)
    x = loc[rng.choice(3, 300, p=[0.5, 0.35, 0.15])] + rng.normal(size=(300, 3)) * 0.25
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return with_landscape(x, loc, 16.0, np.array([0.5, 0.35, 0.15]), spherical=True, num_components=3)
