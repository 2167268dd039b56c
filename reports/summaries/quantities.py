"""Facts read from a fit's tree: kind of engine, options, label-invariant quantities and their names in words."""

import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
import xarray as xr
from jaxtyping import Float, Int

from probam.reports.summaries.partition import number_occupied
from probam.reports.tree import Variables, has, variable

__all__ = [
    "EngineKind",
    "InvariantDraws",
    "engine_kind",
    "evenly",
    "invariant_draws",
    "invariant_group",
    "last_values",
    "options",
    "quantity_name",
    "scalars",
    "truncation",
    "weight_entropy",
]

EngineKind = Literal["point", "approximation", "chains"]
"""What the draws of a fit are: a point estimate, draws from a fitted approximation, or Markov chains."""

InvariantDraws = Mapping[str, Float[np.ndarray, "C S"]]
"""Label-invariant quantities by name, each (chain, draw)."""

_APPROXIMATE = ("svi", "cavi", "stream")
_WORDS = {
    "lp": "log joint density",
    "log_lik": "log likelihood",
    "num_occupied": "memories that hold data",
    "weight_entropy": "entropy of the weights",
    "largest_weight": "largest weight",
    "together": "co-clustering of a pair of data",
    "probe_energy": "energy at a probe point",
}


def options(tree: xr.DataTree, name: str) -> dict[str, Any]:
    """A root attribute that is a JSON object; empty where it is absent or something else."""
    try:
        value = json.loads(str(tree.attrs.get(name, "") or "{}"))
    except json.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def truncation(tree: xr.DataTree) -> dict[str, float]:
    """The numbers of the root attribute ``truncation`` (CLAIMS A20), empty for a finite mixture."""
    return {k: float(v) for k, v in options(tree, "truncation").items() if isinstance(v, int | float)}


def engine_kind(tree: xr.DataTree) -> EngineKind:
    """What the draws are: a point estimate, draws from a fitted approximation, or Markov chains."""
    sizes = tree["posterior"].sizes
    if sizes.get("chain", 1) * sizes.get("draw", 1) == 1:
        return "point"
    return "approximation" if tree.attrs.get("engine") in _APPROXIMATE else "chains"


def invariant_draws(tree: xr.DataTree) -> InvariantDraws:
    """The label-invariant quantities of a fit.

    They are ``lp``, the group ``invariant`` with the rows of each probe and pair, and the sites of the posterior
    that belong to no memory (``alpha``, ``discount``, a shared ``beta``).
    """
    draws: dict[str, Float[np.ndarray, "C S"]] = {}
    if has(tree, "sample_stats", "lp"):
        draws |= scalars("lp", variable(tree, "sample_stats", "lp"))
    if has(tree, "invariant"):
        for name, values in _with_rows(tree["invariant"].to_dataset()).data_vars.items():
            draws |= scalars(str(name), values)
    for name, values in tree["posterior"].to_dataset().data_vars.items():
        if set(values.dims) == {"chain", "draw"}:
            draws |= scalars(str(name), values)
    return draws


def _with_rows(group: xr.Dataset) -> xr.Dataset:
    """The group with its pairs named by their rows: each row that is followed and the one before (the first: the last).

    A group whose pairs are named already, or are others than these, is returned as it is.
    """
    if "together" not in group or not np.issubdtype(group["pair"].dtype, np.integer):
        return group
    if "probe" not in group.coords or group.sizes["probe"] != group.sizes["pair"]:
        return group
    rows = group["probe"].values.tolist()
    return group.assign_coords(pair=[f"{row}-{rows[place - 1]}" for place, row in enumerate(rows)])


def invariant_group(
    *,
    log_lik: Float[np.ndarray, "S N"],
    labels: Int[np.ndarray, "S N"],
    weights: Float[np.ndarray, "S K"],
    together: Float[np.ndarray, "S P"],
    probe_energy: Float[np.ndarray, "S Q"],
    shape: tuple[int, int],
    data_weight: Float[np.ndarray, " N"] | None = None,
) -> Variables:
    """Variables of the group ``invariant``: what does not change when the memories of a draw are renumbered.

    Args:
        log_lik: log density of each datum, nats.
        labels: sampled memory of each datum.
        weights: mixing weights.
        together: probability that the two data of each probe pair share a memory.
        probe_energy: energy at fixed points, such as the negative log density there, nats.
        shape: numbers of chains and of draws per chain, whose product is S.
        data_weight: how often each datum counts in the log likelihood; None counts each once.
    """
    counted = slice(None) if data_weight is None else data_weight > 0  # 0 x -inf is not a number
    total = log_lik[:, counted].sum(axis=1) if data_weight is None else log_lik[:, counted] @ data_weight[counted]
    each: dict[str, tuple[np.ndarray, tuple[str, ...]]] = {
        "log_lik": (total, ()),
        "num_occupied": (number_occupied(labels[:, counted]), ()),
        "weight_entropy": (weight_entropy(weights), ()),
        "largest_weight": (weights.max(axis=1), ()),
        "together": (together, ("pair",)),
        "probe_energy": (probe_energy, ("probe",)),
    }
    return {
        name: (values.reshape(*shape, *values.shape[1:]), ("chain", "draw", *rest))
        for name, (values, rest) in each.items()
    }


def weight_entropy(weights: Float[np.ndarray, "*S K"]) -> Float[np.ndarray, "*S"]:
    """Entropy of mixing weights, nats; a weight of zero adds nothing."""
    return np.asarray(-np.sum(weights * np.log(np.where(weights > 0, weights, 1)), axis=-1))


def quantity_name(name: str) -> str:
    """A label-invariant quantity in words."""
    if name.startswith("probe_energy["):
        return f"energy at row {name[13:-1]}"
    if name.startswith("together["):
        one, dash, other = name[9:-1].partition("-")
        return f"co-clustering of rows {one} and {other}" if dash else f"co-clustering of pair {one}"
    return _WORDS.get(name, name)


def scalars(name: str, variable: xr.DataArray) -> Iterator[tuple[str, Float[np.ndarray, "C S"]]]:
    """Each number of a variable by its name with its labels, such as ``together[3]``, as (chain, draw)."""
    rest = [dim for dim in variable.dims if dim not in ("chain", "draw")]
    values = variable.transpose(*rest, "chain", "draw")
    for index in itertools.product(*(range(values.sizes[dim]) for dim in rest)):
        labels = ", ".join(str(values[dim].values[i]) for dim, i in zip(rest, index, strict=True))
        yield (f"{name}[{labels}]" if rest else name), np.asarray(values.values[index], dtype=np.float64)


def last_values(objective: Float[np.ndarray, "R T"]) -> Float[np.ndarray, " R"]:
    """The last entry of each restart that is not NaN; NaN where a restart has none."""
    steps = objective.shape[1]
    valid = ~np.isnan(objective)
    last = steps - 1 - np.argmax(valid[:, ::-1], axis=1)
    return np.where(valid.any(axis=1), objective[np.arange(len(objective)), last], np.nan)


def evenly(count: int, most: int) -> Int[np.ndarray, " M"]:
    """At most ``most`` of the numbers 0 to ``count`` - 1, evenly spaced, the first and the last among them."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(int)
