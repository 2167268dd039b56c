"""Groups of the tree of a fit with four chains, from draws of the Gibbs sampler in ``small_fits``."""

from typing import NamedTuple

import numpy as np

from probam.reports.summaries.partition import coclustering
from probam.reports.summaries.point_partition import point_partition
from probam.reports.summaries.relabel import from_responsibilities, relabel
from probam.reports.tree import Variables
from tests.reports.small_fits import CENTER, LIMIT, SCALE, Draws, energy, flat

CHAIN_DRAW = ("chain", "draw")


class Relabelled(NamedTuple):
    """Chain and draw joined, memories numbered after the point partition."""

    point: np.ndarray
    loc: np.ndarray
    weights: np.ndarray
    responsibilities: np.ndarray
    occupied: np.ndarray


def relabelled(draws: Draws) -> Relabelled:
    """All draws in one numbering."""
    labels, resp = flat(draws.labels), flat(draws.responsibilities)
    point = point_partition(labels)
    order = relabel(from_responsibilities(resp, flat(draws.loc)), method="ecr", pivot=point).permutations
    return Relabelled(
        point,
        np.take_along_axis(flat(draws.loc), order[:, :, None], axis=1),
        np.take_along_axis(flat(draws.weights), order, axis=1),
        np.take_along_axis(resp, order[:, None, :], axis=2),
        (labels[:, :, None] == order[:, None, :]).any(axis=1),
    )


def replicated(draws: Draws, rng: np.random.Generator, num_replicates: int = 60) -> Variables:
    """Data drawn from some of the draws."""
    num_draws, num_data = flat(draws.labels).shape
    x = np.empty((1, num_replicates, num_data, 2))
    for row, s in enumerate(rng.choice(num_draws, num_replicates, replace=False)):
        z = rng.choice(LIMIT, size=num_data, p=flat(draws.weights)[s])
        spread = 1 / np.sqrt(2 * flat(draws.beta)[s])
        x[0, row] = flat(draws.loc)[s][z] + rng.normal(size=(num_data, 2)) * spread
    return {"x": (CENTER + SCALE * x, (*CHAIN_DRAW, "datum", "feature"))}


def posterior_variables(draws: Draws) -> Variables:
    return {
        "loc": (draws.loc, (*CHAIN_DRAW, "memory", "feature")),
        "beta": (draws.beta, CHAIN_DRAW),
        "weights": (draws.weights, (*CHAIN_DRAW, "memory")),
        "sticks": (draws.sticks, (*CHAIN_DRAW, "stick")),
        "alpha": (draws.alpha, CHAIN_DRAW),
    }


def invariant_variables(draws: Draws) -> Variables:
    """Label-invariant quantities; pairs of data that share a memory rarely, often, and nearly always."""
    similar = coclustering(flat(draws.labels))
    pairs = [np.unravel_index(np.abs(similar - level).argmin(), similar.shape) for level in (0.2, 0.6, 0.9)]
    resp = draws.responsibilities
    probes = np.array([[0.0, 0.0], [1.0, -1.0]])
    probe_energy = [
        [energy(probes, *each) for each in zip(*chain, strict=True)]
        for chain in zip(draws.loc, draws.beta, draws.weights, strict=True)
    ]
    return {
        "log_lik": (draws.log_lik, CHAIN_DRAW),
        "num_occupied": (np.array([[len(np.unique(z)) for z in chain] for chain in draws.labels]), CHAIN_DRAW),
        "weight_entropy": (-(draws.weights * np.log(draws.weights)).sum(axis=-1), CHAIN_DRAW),
        "largest_weight": (draws.weights.max(axis=-1), CHAIN_DRAW),
        "probe_energy": (np.array(probe_energy), (*CHAIN_DRAW, "probe")),
        "together": (
            np.stack([(resp[:, :, i] * resp[:, :, j]).sum(-1) for i, j in pairs], axis=-1),
            (*CHAIN_DRAW, "pair"),
        ),
    }


def memory_variables(draws: Draws, own: Relabelled) -> Variables:
    """The relabelled memories in data units, each averaged over the draws in which it holds data."""
    counted = own.occupied | ~own.occupied.any(axis=0)
    loc = np.where(counted[:, :, None], own.loc, np.nan)
    spread = (1 / np.sqrt(2 * flat(draws.beta))).mean()
    return {
        "mean": (CENTER + SCALE * np.nanmean(loc, axis=0), ("memory", "feature")),
        "mean_sd": (SCALE * np.nanstd(loc, axis=0), ("memory", "feature")),
        "mean_q05": (CENTER + SCALE * np.nanquantile(loc, 0.05, axis=0), ("memory", "feature")),
        "mean_q95": (CENTER + SCALE * np.nanquantile(loc, 0.95, axis=0), ("memory", "feature")),
        "sd": (np.broadcast_to(SCALE * spread, (LIMIT, 2)), ("memory", "feature")),
        "weight": (own.weights.mean(axis=0), ("memory",)),
        "weight_sd": (own.weights.std(axis=0), ("memory",)),
        "occupied": (own.occupied.mean(axis=0), ("memory",)),
        "size": (own.responsibilities.sum(axis=1).mean(axis=0), ("memory",)),
    }


def partition_variables(draws: Draws, own: Relabelled) -> Variables:
    mean = own.responsibilities.mean(axis=0)
    return {
        "coclustering": (coclustering(flat(draws.labels)), ("row", "row_bis")),
        "label": (own.point, ("datum",)),
        "confidence": (mean[np.arange(len(own.point)), own.point], ("datum",)),
    }
