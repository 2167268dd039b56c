"""A fit as ArviZ's functions take it: every group at the same draws.

A file holds each group at as many draws as it can afford; functions of ArviZ that read two groups expect the same
draws in both. Here they are: posterior, log likelihood, log prior, sampler statistics and replicated data.
"""

import jax
import numpy as np
import xarray as xr

import probam.fits.posterior as posterior
from probam.errors import InputError
from probam.fits.choices import precision
from probam.fits.saved import on_device, saved_sites, saved_units, site_names
from probam.models.mixture import Mixture
from probam.options import boolean, whole_number
from probam.reports.summaries.quantities import evenly
from probam.reports.tree import has, variable

__all__ = ["arviz_tree"]

_OF_DRAWS = ("posterior", "sample_stats", "log_likelihood", "log_prior")
_OF_MEMORIES = ("posterior", "log_prior")
_OF_DATA = ("observed_data", "posterior_predictive", "prior_predictive")
_AS_THEY_ARE = ("prior", "prior_predictive")
_BESIDE_THE_DATA = ("completed", "weight", "allowed")
"""Variables of ``observed_data`` that ArviZ would take for data; they go to ``constant_data``."""


def arviz_tree(
    tree: xr.DataTree, model: Mixture, num_draws: int, *, relabelled: bool, feature: str | None
) -> xr.DataTree:
    """The groups that ArviZ knows, at draws that all of them have.

    Args:
        tree: the fit, with the groups that are made on demand.
        model: the program that was fitted.
        num_draws: most draws, over all chains.
        relabelled: whether memories are numbered alike in all draws, as in the group ``memory``.
        feature: the one feature of the data and of replicated data to have; None has all, of a fit of one feature
            that one.

    Raises:
        InputError: where there are more chains than draws are wanted, or no such feature.
    """
    whole_number(least=1)("num_draws", num_draws)
    boolean("relabelled", relabelled)
    columns = [str(name) for name in variable(tree, "observed_data", "feature").values]
    if feature is not None and feature not in columns:
        raise InputError(f"feature: expected one of {', '.join(columns)}; got {feature!r}")
    num_chains = tree["posterior"].sizes["chain"]
    if num_draws < num_chains:
        raise InputError(f"num_draws: expected at least one for each of {num_chains} chains; got {num_draws}")
    kept = variable(tree, "invariant", "draw").values
    chosen = evenly(len(kept), num_draws // num_chains)
    groups = _with_draws(tree, kept[chosen])
    if relabelled:
        permutation = variable(tree, "memory", "permutation").values.reshape(num_chains, len(kept), -1)[:, chosen]
        groups |= {name: _relabelled(groups[name], permutation) for name in _OF_MEMORIES if name in groups}
    groups["posterior_predictive"] = _replicated(tree, model, kept[chosen])
    groups |= {name: tree[name].to_dataset() for name in _AS_THEY_ARE if has(tree, name)}
    observed = tree["observed_data"].to_dataset()
    beside = [name for name in _BESIDE_THE_DATA if name in observed]
    groups["observed_data"] = observed[["x"]]
    groups["constant_data"] = tree["constant_data"].to_dataset().merge(observed[beside])
    if feature is not None or len(columns) == 1:
        groups |= _of_one_feature(groups, feature or columns[0])
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=tree.attrs), **groups})


def _with_draws(tree: xr.DataTree, draws: np.ndarray) -> dict[str, xr.Dataset]:
    """The groups of the fit that have draws, at these; a row counts in its likelihood as often as its weight says."""
    groups = {name: tree[name].to_dataset().sel(draw=draws) for name in _OF_DRAWS if has(tree, name)}
    if has(tree, "observed_data", "weight") and "log_likelihood" in groups:
        weight = variable(tree, "observed_data", "weight")
        groups["log_likelihood"] = (groups["log_likelihood"] * weight).where(weight > 0, 0.0)
    return groups


def _of_one_feature(groups: dict[str, xr.Dataset], feature: str) -> dict[str, xr.Dataset]:
    """The data and replicated data of one feature, with the other features as variables of ``constant_data``."""
    x, constants = groups["observed_data"]["x"], groups["constant_data"]
    others = [str(name) for name in x["feature"].values if name != feature and name not in constants]
    beside = xr.Dataset({name: x.sel(feature=name, drop=True) for name in others})
    chosen = {name: groups[name].sel(feature=feature, drop=True) for name in _OF_DATA if name in groups}
    return chosen | {"constant_data": beside.merge(constants)}


def _relabelled(group: xr.Dataset, permutation: np.ndarray) -> xr.Dataset:
    """The memories of every draw as numbered in the group ``memory``; sticks have no meaning in that order."""
    order = xr.DataArray(permutation, dims=("chain", "draw", "memory"))
    moved = {
        name: values.isel(memory=order).assign_coords(memory=group["memory"]) if "memory" in values.dims else values
        for name, values in group.data_vars.items()
        if "stick" not in values.dims
    }
    return xr.Dataset(moved, attrs=group.attrs)


def _replicated(tree: xr.DataTree, model: Mixture, draws: np.ndarray) -> xr.Dataset:
    """One replicated data set for each of these draws of every chain, in the units of the data."""
    sizes = tree["posterior"].sizes
    sites = saved_sites(tree, site_names(model), thinned=False)
    which = (np.arange(sizes["chain"])[:, None] * sizes["draw"] + draws).ravel()
    x = variable(tree, "observed_data", "x")
    with precision(np.dtype(tree.attrs["dtype"])):
        params = on_device({name: value[which] for name, value in sites.items()})
        rows = np.asarray(posterior.replicate(model, params, jax.random.key(2), len(x)))
    values = saved_units(tree).invert(rows).astype(np.float32).reshape(sizes["chain"], len(draws), *x.shape)
    labels = {"chain": tree["posterior"]["chain"].values, "draw": draws}
    return xr.Dataset({"x": (("chain", "draw", "datum", "feature"), values)}, labels | dict(x.coords))
