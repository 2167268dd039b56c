"""Partitions, from the draws of any sampler: what ArviZ has no functions for.

The draws may come from PyMC, Stan, bayesmix, BNPmix or probam. Functions take NumPy arrays, or xarray objects with the
dimensions ``chain`` and ``draw``, and return the kind that they were given. The numbers of clusters have no meaning
from draw to draw: a partition is who shares a cluster with whom.

Labels are whole numbers, (draw, datum) of one chain or (chain, draw, datum). Their values carry no meaning beyond
equality, except in :func:`relabel`, where label k is component k.

>>> labels = np.array([[[0, 0, 1], [1, 1, 0], [2, 0, 1], [0, 0, 1]]])  # a chain, 4 draws, 3 data
>>> coclustering(labels)[0]
array([1.  , 0.75, 0.  ])
>>> point_partition(labels)
array([0, 0, 1])
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

import probam.reports.summaries.credible as credible
import probam.reports.summaries.partition as partition
import probam.reports.summaries.point_partition as point
from probam.errors import InputError
from probam.reports.summaries.convergence import summarise
from probam.reports.summaries.credible import CredibleBall
from probam.reports.summaries.given_draws import SAMPLE, GivenDraws, finite, given_draws, given_labels, whole_labels
from probam.reports.summaries.partition import Loss, PartitionDraws
from probam.reports.summaries.quantities import InvariantDraws, evenly, scalars, weight_entropy
from probam.reports.summaries.relabel import LabelledDraws, Method, from_responsibilities
from probam.reports.summaries.relabel import agreement as agreement_of_rows
from probam.reports.summaries.relabel import relabel as relabel_rows

__all__ = [
    "CredibleBall",
    "across_engines",
    "agreement",
    "coclustering",
    "convergence",
    "credible_ball",
    "distances",
    "expected_loss",
    "num_occupied",
    "point_partition",
    "quantities",
    "relabel",
    "renumbered",
    "renumbered_labels",
]

_PAIRS = 5
"""Pairs of data whose co-clustering is followed, unless the caller names others."""


# --- similarity and point partitions ---------------------------------------------------------------------------


def coclustering(labels: ArrayLike | xr.DataArray) -> Any:
    """Share of the draws in which two data have the same label, (datum, datum): the posterior similarity matrix.

    Args:
        labels: sampled labels.
    """
    draws = given_labels(labels)
    return draws.like(partition.coclustering(draws.rows), (draws.datum, f"{draws.datum}_bis"))


def point_partition(
    labels: ArrayLike | xr.DataArray | None = None, *, similarity: ArrayLike | None = None, loss: Loss = "vi"
) -> Any:
    """The partition (datum,) of least expected loss that a search finds, the largest cluster first.

    Candidates are sampled partitions and cuts of the average-linkage tree; the best are improved datum by datum (the
    sweeps of SALSO: Dahl, Johnson and Mueller 2022). Give labels where you have them: from a matrix alone the loss
    "vi" is replaced by a bound (Wade and Ghahramani 2018).

    Args:
        labels: sampled labels.
        similarity: a co-clustering matrix in place of labels.
        loss: "vi", the variation of information, or "binder".
    """
    draws, known = _posterior(labels, similarity)
    found = point.point_partition(known, loss=loss)
    return found if draws is None else draws.like(found, (draws.datum,))


def expected_loss(
    candidates: ArrayLike,
    labels: ArrayLike | xr.DataArray | None = None,
    *,
    similarity: ArrayLike | None = None,
    loss: Loss = "vi",
) -> Float[np.ndarray, " C"]:
    """Posterior expected loss of partitions: nats for "vi", a share of the pairs of data for "binder".

    Args:
        candidates: labels of each partition (candidate, datum); one partition may stand alone.
        labels: sampled labels.
        similarity: a co-clustering matrix in place of labels, for "binder".
        loss: "vi" or "binder".
    """
    if loss == "vi" and labels is None:
        raise InputError("labels: the expected variation of information needs sampled labels; a matrix has only binder")
    _, known = _posterior(labels, similarity)
    each, num_data = whole_labels("candidates", np.atleast_2d(np.asarray(candidates))), known.similarity.shape[0]
    if each.ndim != 2 or each.shape[1] != num_data:
        raise InputError(f"candidates: expected {num_data} labels, one per datum; got shape {each.shape}")
    return partition.expected_loss(each, known, loss=loss)


def credible_ball(
    labels: ArrayLike | xr.DataArray,
    centre: ArrayLike | None = None,
    *,
    probability: float = 0.95,
    loss: Loss = "vi",
) -> CredibleBall:
    """The smallest ball around a partition with a given share of the draws, and its bounds (Wade & Ghahramani 2018).

    Args:
        labels: sampled labels.
        centre: the partition in the middle; None: the point partition of this loss.
        probability: the share, in (0, 1].
        loss: "vi" (radius in nats) or "binder" (radius as a share of the pairs of data).

    Returns:
        ``radius``, and the bounds ``upper`` (fewest clusters), ``lower`` (most) and ``horizontal`` (farthest).
    """
    draws = given_labels(labels)
    middle = point_partition(draws.rows, loss=loss) if centre is None else whole_labels("centre", np.asarray(centre))
    return credible.credible_ball(draws.rows, middle, probability=probability, loss=loss)


def distances(centre: ArrayLike, labels: ArrayLike | xr.DataArray, *, loss: Loss = "vi") -> Any:
    """Distance of every draw from one partition, (chain, draw), or (draw,) where labels are of one chain.

    Args:
        centre: labels of the partition.
        labels: sampled labels.
        loss: "vi" (nats) or "binder" (share of the pairs of data).
    """
    draws = given_labels(labels)
    middle = whole_labels("centre", np.asarray(centre))
    if middle.shape != draws.values.shape[2:]:
        raise InputError(f"centre: expected {draws.values.shape[2]} labels, one per datum; got shape {middle.shape}")
    found = partition.distances(middle, draws.rows, loss=loss).reshape(draws.values.shape[:2])
    return found[0] if np.ndim(labels) == 2 else draws.like(found, SAMPLE)


def num_occupied(labels: ArrayLike | xr.DataArray) -> pd.DataFrame:
    """Posterior of the number of clusters that hold data: a row each, its ``probability`` and what it is good for.

    ``mcse`` is the Monte Carlo error of the probability; ``ess_bulk`` and ``r_hat`` are of its indicator.

    Args:
        labels: sampled labels.
    """
    draws = given_labels(labels)
    count = partition.number_occupied(draws.rows).reshape(draws.values.shape[:2])
    seen = np.unique(count)
    table = summarise({str(k): (count == k).astype(np.float64) for k in seen}, "chains")
    table.index = pd.Index(seen, name="num_occupied")
    return table.rename(columns={"mean": "probability"})[["probability", "mcse", "ess_bulk", "r_hat", "note"]]


# --- convergence ------------------------------------------------------------------------------------------------


def quantities(
    labels: ArrayLike | xr.DataArray | None = None,
    *,
    weights: ArrayLike | xr.DataArray | None = None,
    log_lik: ArrayLike | xr.DataArray | None = None,
    pairs: Sequence[tuple[int, int]] | None = None,
) -> xr.Dataset:
    """What does not change when clusters are renumbered, of every draw: a Dataset (chain, draw) that ArviZ takes.

    R-hat and effective sample sizes of a component's own parameters mean nothing where labels switch; those of these
    quantities do.

    Args:
        labels: sampled labels: ``num_occupied``, ``largest_cluster`` (its share of the data), ``cluster_entropy``
            (nats, of the shares) and ``together`` (pair), whether two data share a cluster.
        weights: mixing weights (chain, draw, component): ``largest_weight`` and ``weight_entropy`` (nats).
        log_lik: log likelihood (chain, draw), or of each datum (chain, draw, datum): ``log_lik``, their sum.
        pairs: numbers of two data each; None: five pairs drawn at random, the same for as many data.
    """
    found = []
    if labels is not None:
        found.append(_of_labels(given_labels(labels).values, pairs))
    if weights is not None:
        w = finite("weights", given_draws("weights", weights, 3)).values
        found.append({"largest_weight": (SAMPLE, w.max(axis=2)), "weight_entropy": (SAMPLE, weight_entropy(w))})
    if log_lik is not None:
        own = finite("log_lik", given_draws("log_lik", log_lik, max(np.ndim(log_lik), 2))).values
        found.append({"log_lik": (SAMPLE, own.reshape(*own.shape[:2], -1).sum(axis=2))})
    if not found:
        raise InputError("labels, weights, log_lik: give at least one of them")
    shapes = [next(iter(each.values()))[1].shape[:2] for each in found]
    if len(set(shapes)) > 1:
        raise InputError(f"labels, weights, log_lik: expected the same chains and draws; got {shapes}")
    return xr.Dataset({name: value for each in found for name, value in each.items()})


def convergence(quantities_of_draws: xr.Dataset | ArrayLike | xr.DataArray) -> pd.DataFrame:
    """Mean, sd, Monte Carlo error, effective sample sizes and R-hat of quantities of the draws, a row each.

    Estimators are ArviZ's (Vehtari et al. 2021). What is not defined is ``<NA>`` and the column ``note`` says why.

    Args:
        quantities_of_draws: the Dataset of :func:`quantities` or any other of (chain, draw, ...), or sampled labels.
    """
    return summarise(_invariant(quantities_of_draws), "chains")


def across_engines(engines: Mapping[str, xr.Dataset | ArrayLike | xr.DataArray]) -> pd.DataFrame:
    """Whether several samplers agree on one posterior, by quantity.

    Args:
        engines: for each sampler the Dataset of :func:`quantities`, or sampled labels, of the same data.

    Returns:
        ``r_hat`` over the chains of all samplers (each thinned evenly to as many draws as the shortest), ``gap``, the
        largest difference of two samplers' means in Monte Carlo errors of that difference, and the mean of each.
    """
    if len(engines) < 2:
        raise InputError(f"engines: expected at least two; got {', '.join(engines) or 'none'}")
    own = {name: _invariant(draws) for name, draws in engines.items()}
    common = [name for name in next(iter(own.values())) if all(name in draws for draws in own.values())]
    if not common:
        raise InputError(
            "engines: they have no quantity in common; give labels of the same data, or the same arguments"
        )
    shortest = min(values.shape[1] for draws in own.values() for values in draws.values())
    pooled = {
        name: np.concatenate([draws[name][:, evenly(draws[name].shape[1], shortest)] for draws in own.values()])
        for name in common
    }
    tables = {name: summarise({each: draws[each] for each in common}, "chains") for name, draws in own.items()}
    gaps = [_gap(*(tables[name] for name in two)) for two in itertools.combinations(tables, 2)]
    means = {f"mean_{name}": table["mean"] for name, table in tables.items()}
    return pd.DataFrame(
        {"r_hat": summarise(pooled, "chains")["r_hat"], "gap": pd.concat(gaps, axis=1).max(axis=1), **means}
    )


# --- relabelling ------------------------------------------------------------------------------------------------


def relabel(
    *,
    labels: ArrayLike | xr.DataArray | None = None,
    responsibilities: ArrayLike | xr.DataArray | None = None,
    parameters: ArrayLike | xr.DataArray | None = None,
    num_components: int | None = None,
    method: Method = "stephens",
    log_density: ArrayLike | xr.DataArray | None = None,
) -> Any:
    """Permutations (chain, draw, component) that number the components of all draws alike.

    Component k in the common numbering is component ``permutation[chain, draw, k]`` of the draw; :func:`renumbered` and
    :func:`renumbered_labels` apply them. Where labels or responsibilities are given the largest component comes first.

    Args:
        labels: sampled labels 0 to K - 1, (chain, draw, datum) or (draw, datum); label k is component k.
        responsibilities: in place of labels: the probability of each component for each datum, (chain, draw, datum,
            component) or (draw, datum, component).
        parameters: of the components, (chain, draw, component) with or without more axes; "pivotal" compares them.
        num_components: K, where only labels are given and the last components may hold no data in any draw.
        method: "stephens" (Kullback-Leibler), "ecr" (agreement with the labels of one draw) or "pivotal" (nearest
            parameters; for mixtures all of whose components hold data).
        log_density: log posterior density (chain, draw). All begin at the draw where it is largest; without it, at the
            first draw.
    """
    if (labels is None) == (responsibilities is None) and not (method == "pivotal" and parameters is not None):
        raise InputError(
            "labels, responsibilities: give one of them; only method 'pivotal' can do with parameters alone"
        )
    if method == "pivotal" and parameters is None:
        raise InputError("parameters: method 'pivotal' compares the parameters of the components; give them")
    resp = None if labels is responsibilities is None else _tables(labels, responsibilities, num_components)
    wanted = None if resp is None else (*resp.values.shape[:2], resp.values.shape[3])
    theta = None if parameters is None else _of_components("parameters", parameters, wanted)
    given = resp if resp is not None else theta
    assert given is not None, "one of them is there"
    num_chains, num_draws = given.values.shape[:2]
    reference = 0
    if log_density is not None:
        density = finite("log_density", given_draws("log_density", log_density, 2)).values
        if density.shape != (num_chains, num_draws):
            raise InputError(f"log_density: expected shape {(num_chains, num_draws)}; got {density.shape}")
        reference = int(density.argmax())
    permutation = relabel_rows(_labelled(resp, theta, reference), method=method).permutations
    if resp is not None:
        size = np.take_along_axis(resp.rows.sum(axis=1), permutation, axis=1).mean(axis=0)
        permutation = permutation[:, np.argsort(-size, kind="stable")]
    return given.like(permutation.reshape(num_chains, num_draws, -1), (*SAMPLE, "component"))


def renumbered(values: ArrayLike | xr.DataArray, permutation: ArrayLike | xr.DataArray) -> Any:
    """Parameters of the components in the common numbering.

    Args:
        values: (chain, draw, component) with or without more axes.
        permutation: what :func:`relabel` returned.
    """
    order = given_draws("permutation", permutation, 3).values
    own = _of_components("values", values, order.shape)
    index = order.reshape(*order.shape, *[1] * (own.values.ndim - 3))
    moved = np.take_along_axis(own.values, index, axis=2)
    return moved[0] if np.ndim(values) < own.values.ndim else own.like(moved, (*SAMPLE, *(own.rest or ())))


def renumbered_labels(labels: ArrayLike | xr.DataArray, permutation: ArrayLike | xr.DataArray) -> Any:
    """Sampled labels in the common numbering.

    Args:
        labels: sampled labels 0 to K - 1.
        permutation: what :func:`relabel` returned.
    """
    own, order = given_labels(labels), given_draws("permutation", permutation, 3).values
    if own.values.shape[:2] != order.shape[:2]:
        raise InputError(f"permutation: expected {own.values.shape[:2]} chains and draws; got {order.shape[:2]}")
    _check_components(own.values, order.shape[2])
    return own.like(np.take_along_axis(np.argsort(order, axis=2), own.values, axis=2), (*SAMPLE, own.datum))


def agreement(a: ArrayLike | xr.DataArray, b: ArrayLike | xr.DataArray) -> float:
    """Share of the draws that two relabellings number alike, up to one renumbering common to all draws.

    Args:
        a: permutations by one rule.
        b: permutations by another.
    """
    return agreement_of_rows(given_draws("a", a, 3).rows, given_draws("b", b, 3).rows)


def _tables(labels: Any, responsibilities: Any, num_components: int | None) -> GivenDraws:
    """Responsibilities (chain, draw, datum, component); of labels, zeros and ones."""
    if labels is None:
        return finite("responsibilities", given_draws("responsibilities", responsibilities, 4))
    own = given_labels(labels)
    size = int(own.values.max()) + 1 if num_components is None else num_components
    _check_components(own.values, size)
    return own._replace(values=np.eye(size, dtype=np.float32)[own.values])


def _of_components(name: str, values: Any, shape: tuple[int, ...] | None) -> GivenDraws:
    """Numbers (chain, draw, component, ...) whose first axes have this shape; without the first, of one chain."""
    if (
        shape is not None
        and shape[0] == 1
        and not isinstance(values, xr.DataArray)
        and np.shape(values)[:2] == shape[1:]
    ):
        values = np.asarray(values)[None]
    given = finite(name, given_draws(name, values, max(np.ndim(values), 3)))
    if shape is not None and given.values.shape[:3] != shape:
        raise InputError(f"{name}: expected (chain, draw, component) of shape {shape}; got {given.values.shape}")
    return given


def _labelled(resp: GivenDraws | None, theta: GivenDraws | None, reference: int) -> LabelledDraws:
    """The draws in a row, as the rules take them; what a rule does not look at is empty."""
    given = resp if resp is not None else theta
    assert given is not None, "one of them is there"
    num_draws, num_components = len(given.rows), given.values.shape[-1 if resp is not None else 2]
    tables = np.ones((num_draws, 1, num_components)) if resp is None else resp.rows
    memories = np.zeros((num_draws, num_components, 1)) if theta is None else theta.rows
    return from_responsibilities(tables, memories.reshape(num_draws, num_components, -1), reference)


def _of_labels(z: Int[np.ndarray, "C S N"], pairs: Sequence[tuple[int, int]] | None) -> dict[str, Any]:
    num_chains, num_draws, num_data = z.shape
    rows = partition.canonical(z.reshape(-1, num_data))
    shares = partition.cluster_sizes(rows, int(rows.max()) + 1) / num_data
    chosen = _pairs(num_data) if pairs is None else np.asarray(pairs)
    if chosen.ndim != 2 or chosen.shape[1] != 2 or chosen.min() < 0 or chosen.max() >= num_data:
        raise InputError(f"pairs: expected two numbers of data each, 0 to {num_data - 1}; got {pairs}")
    each = {
        "num_occupied": partition.number_occupied(rows),
        "largest_cluster": shares.max(axis=1),
        "cluster_entropy": weight_entropy(shares),
    }
    found: dict[str, Any] = {name: (SAMPLE, value.reshape(num_chains, num_draws)) for name, value in each.items()}
    together = (rows[:, chosen[:, 0]] == rows[:, chosen[:, 1]]).reshape(num_chains, num_draws, -1)
    found["together"] = ((*SAMPLE, "pair"), together.astype(np.float64))
    return found | {"pair": (("pair",), np.array([f"{i}-{j}" for i, j in chosen]))}


def _pairs(num_data: int) -> Int[np.ndarray, "P 2"]:
    """Pairs of different data drawn at random, the same for as many data."""
    every = np.stack(np.triu_indices(num_data, 1), axis=1) if num_data <= 100 else None
    rng = np.random.default_rng(0)
    if every is not None:
        return every[rng.permutation(len(every))[:_PAIRS]]
    return np.stack([rng.choice(num_data, 2, replace=False) for _ in range(_PAIRS)])


def _invariant(draws: xr.Dataset | ArrayLike | xr.DataArray) -> InvariantDraws:
    """Label-invariant quantities by name, each (chain, draw)."""
    own = draws if isinstance(draws, xr.Dataset) else quantities(draws)
    lacking = [str(name) for name, values in own.data_vars.items() if not set(SAMPLE) <= set(values.dims)]
    if lacking:
        raise InputError(f"quantities: expected the dimensions chain and draw; {', '.join(lacking)} lacks one of them")
    return {key: value for name, values in own.data_vars.items() for key, value in scalars(str(name), values)}


def _gap(a: pd.DataFrame, b: pd.DataFrame) -> pd.Series:
    """Difference of means in Monte Carlo errors of that difference; not defined where there is no error."""
    error = (a["mcse"] ** 2 + b["mcse"] ** 2) ** 0.5
    gap: pd.Series = (a["mean"] - b["mean"]).abs() / error.where(error > 0)
    return gap


def _check_components(labels: Int[np.ndarray, "C S N"], num_components: int) -> None:
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or highest >= num_components:
        shift = "; Stan and R count from 1: subtract 1" if lowest == 1 else ""
        raise InputError(f"labels: expected 0 to {num_components - 1}; got {lowest} to {highest}{shift}")


def _posterior(labels: Any, similarity: Any) -> tuple[GivenDraws | None, PartitionDraws]:
    """Sampled labels with their co-clustering, or a co-clustering matrix alone."""
    if (labels is None) == (similarity is None):
        raise InputError("labels, similarity: give sampled labels, or a co-clustering matrix; one of them")
    if labels is not None:
        draws = given_labels(labels)
        return draws, partition.partition_draws(draws.rows)
    matrix = np.asarray(similarity, np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise InputError(f"similarity: expected a co-clustering matrix (N, N); got shape {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise InputError("similarity: expected finite numbers; some are missing (NaN or infinite)")
    return None, partition.partition_draws(matrix)
