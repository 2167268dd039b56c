"""What the numbers of a fit are: the objective whose maximum they are, or what they were drawn from."""

import numpy as np
import xarray as xr

from probam.reports.page import count
from probam.reports.tree import has, num_data, variable

__all__ = [
    "NOT_A_COUNT",
    "bounds_memories",
    "data_weights",
    "estimate_in_words",
    "headline",
    "sample_in_words",
    "total_log_likelihood",
    "total_weight",
]

_SEARCHES = ("em", "gradient_em", "clam")
"""Engines that return the end of a search and no draws."""

NOT_A_COUNT = "This is an upper bound: a mode of the weights does not count memories."
"""Why the number of memories at a point estimate under a Dirichlet or Pitman-Yor process is an upper bound."""


def sample_in_words(tree: xr.DataTree) -> str:
    """Which rows a fit of data larger than memory holds, and what its numbers are of; empty where it holds all."""
    if not has(tree, "all_rows"):
        return ""
    held, every = int(tree.children["observed_data"].sizes["datum"]), num_data(tree)
    return (
        f"It holds {count(held)} of {count(every)} rows, drawn at random: the log likelihood and the sizes and number "
        "of memories are of all rows, what is said of single rows is of these."
    )


def estimate_in_words(tree: xr.DataTree) -> str:
    """What the fit is, for example ``maximum a posteriori under the default prior``; empty where it does not say."""
    return str(tree.attrs.get("estimate", ""))


def bounds_memories(tree: xr.DataTree) -> bool:
    """Whether the number of memories that hold data is only an upper bound: see ``NOT_A_COUNT``."""
    return tree.attrs.get("weights") in ("dp", "pyp") and tree.attrs.get("engine") in _SEARCHES


def headline(tree: xr.DataTree) -> str:
    """What the fit is, and the log likelihood of the data there (its mean over the draws, where there are several).

    Empty where the tree says neither.
    """
    words = [estimate_in_words(tree)]
    values = total_log_likelihood(tree)
    if values is not None:
        average = " on average" if values.size > 1 else ""
        words.append(f"log likelihood {values.mean():.2f} nats{average}")
    sentence = ", ".join(word for word in words if word)
    return sentence[:1].upper() + sentence[1:]


def data_weights(tree: xr.DataTree) -> np.ndarray:
    """How often each datum counts (N,): ones where the fit was given no weights."""
    if has(tree, "observed_data", "weight"):
        return np.asarray(variable(tree, "observed_data", "weight").values, np.float64)
    return np.ones(int(tree["observed_data"].sizes["datum"]))


def total_weight(tree: xr.DataTree) -> float:
    """How many data were fitted, each as often as it counts; of data larger than memory all of them."""
    if has(tree, "all_rows"):
        return float(tree.children["all_rows"].attrs.get("total_weight", num_data(tree)))
    return float(data_weights(tree).sum())


def total_log_likelihood(tree: xr.DataTree) -> np.ndarray | None:
    """Log likelihood of all data (chain, draw), nats, in the units of the data; None where the tree has none.

    Each datum counts as often as its weight says. Of data larger than memory it is that of all rows, not of the sample.
    """
    if has(tree, "all_rows"):
        scale = variable(tree, "constant_data", "scale").values.astype(np.float64)
        whole = variable(tree, "all_rows", "log_lik").values.astype(np.float64)
        return np.asarray(whole - total_weight(tree) * float(np.sum(np.log(scale))))
    weights = data_weights(tree)
    if has(tree, "log_likelihood", "x"):
        densities = variable(tree, "log_likelihood", "x").transpose("chain", "draw", "datum").values
        counted = weights > 0  # 0 x -inf is not a number
        return np.asarray(densities[..., counted].astype(np.float64) @ weights[counted])
    if not has(tree, "invariant", "log_lik"):
        return None
    in_model_units = variable(tree, "invariant", "log_lik").values.astype(np.float64)
    scale = variable(tree, "constant_data", "scale").values.astype(np.float64)
    observed = ~np.isnan(variable(tree, "observed_data", "x").values)  # a missing entry has no unit
    return np.asarray(in_model_units - float(weights @ observed @ np.log(scale)))
