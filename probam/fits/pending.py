"""A fit whose engine has ended and whose groups are still to be made: what is written, and how it is completed."""

from typing import Any

import jax
import numpy as np
import xarray as xr

import probam.fits.groups as groups
from probam.compiled import compiled_quickly
from probam.fits.assemble import FURTHER, KeysToRead, fit_tree, keys_to_read, tree_of
from probam.fits.choices import precision
from probam.fits.outcome import with_outcome
from probam.fits.prepared import Prepared
from probam.fits.saved import saved_data, saved_survey
from probam.inference.common.progress import Reporter, silent
from probam.inference.common.result import EngineResult
from probam.models.mixture import Mixture

__all__ = ["completed", "is_pending", "keys_of", "pending_tree"]

_OF_THE_RUN = ("optimisation", "evidence", "all_rows")
"""Groups that the engine's result holds beside its draws."""

_TO_BE_MADE = ("invariant", "memory", *FURTHER)


def pending_tree(model: Mixture, prepared: Prepared, result: EngineResult, attributes: dict[str, Any]) -> xr.DataTree:
    """What the engine returned, and nothing that follows from it; the root attribute ``pending`` lists what is missing.

    Args:
        model: the program that was fitted.
        prepared: the data.
        result: what the engine returned.
        attributes: the root attributes.
    """
    made = {
        "posterior": groups.sites_group(model, result.sites),
        "sample_stats": groups.sample_stats_group(result),
        "optimisation": groups.optimisation_group(result),
        "evidence": groups.evidence_group(result.evidence, prepared),
        "all_rows": groups.all_rows_group(result, prepared),
    }
    known = {name: group for name, group in made.items() if group is not None}
    return tree_of(known, attributes | {"pending": list(_TO_BE_MADE)}, prepared, prepared.x)


def is_pending(tree: xr.DataTree) -> bool:
    """Whether groups of this fit are still to be made."""
    return bool(tree.attrs.get("pending"))


@compiled_quickly()
def keys_of(seed: np.uint32 | jax.Array) -> tuple[jax.Array, KeysToRead]:
    """For the engine, and for what is drawn to read its result."""
    key_run, key_read = jax.random.split(jax.random.key(seed))
    return key_run, keys_to_read(key_read)


def completed(tree: xr.DataTree, model: Mixture, progress: Reporter = silent) -> xr.DataTree:
    """The fit with the groups that a file always has, with the bits of a fit that was not interrupted.

    Args:
        tree: the pending fit.
        model: the program that was fitted.
        progress: told of the groups that are made.
    """
    with precision(np.dtype(tree.attrs["dtype"])):
        return _completed(tree, model, keys_of(np.uint32(tree.attrs["seed"]))[1], progress)


def _completed(tree: xr.DataTree, model: Mixture, keys: KeysToRead, progress: Reporter) -> xr.DataTree:
    attributes = {str(name): value for name, value in tree.attrs.items() if name != "pending"}
    sites, stats = (
        {str(name): np.asarray(values) for name, values in tree[group].to_dataset().data_vars.items()}
        for group in ("posterior", "sample_stats")
    )
    status = str(attributes.get("status", ""))
    result = EngineResult(sites, stats, None, "", status, survey=saved_survey(tree))
    whole = fit_tree(model, saved_data(tree), result, keys, attributes, progress)
    for name in _OF_THE_RUN:
        if name in tree.children:
            whole[name] = xr.DataTree(tree[name].to_dataset())
    return with_outcome(whole, model)
