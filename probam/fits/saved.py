"""What the tree of a fit holds, as groups are made of it: the data, the thinned draws, the memories numbered alike."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import cached_property

import jax
import numpy as np
import xarray as xr
from jaxtyping import Float, Int

from probam.data.standardise import Standardiser
from probam.data.table import Table
from probam.family import Params
from probam.fits.answers import responsibilities
from probam.fits.draws import Draws, compared_rows
from probam.fits.prepared import Prepared
from probam.inference.common.coordinates import Coordinates
from probam.inference.common.result import Survey
from probam.models.mixture import Mixture
from probam.reports.tree import has, rows_of, variable

__all__ = ["Saved", "on_device", "saved_data", "saved_sites", "saved_survey", "saved_units", "site_names"]


def saved_units(tree: xr.DataTree) -> Standardiser:
    """Converts the units of the data to those of the model and back."""
    center, scale = (variable(tree, "constant_data", name).values for name in ("center", "scale"))
    return Standardiser(center, scale)


def saved_data(tree: xr.DataTree) -> Prepared:
    """The data, as the fit had them."""
    observed = tree["observed_data"].to_dataset()
    columns = tuple(str(name) for name in observed["feature"].values)
    table = Table(observed["x"].values, columns, str(tree.attrs.get("source", "")), missing=True)
    prepared = Prepared.of(table, saved_units(tree))
    if "allowed" in observed:
        prepared = replace(prepared, allowed=observed["allowed"].values.astype(bool))
    return replace(prepared, weight=observed["weight"].values) if "weight" in observed else prepared


def saved_survey(tree: xr.DataTree) -> Survey | None:
    """What all rows of data larger than memory say of the draws; None where the fit holds all rows."""
    if not has(tree, "all_rows"):
        return None
    group = tree["all_rows"].to_dataset()
    leaves = (group[name].values for name in Survey._fields)
    return Survey(*(leaf.reshape(-1, *leaf.shape[2:]) for leaf in leaves))


def site_names(model: Mixture) -> frozenset[str]:
    """The sites of a model; the group ``posterior`` also has what follows from them."""
    return frozenset(Coordinates(model).transforms)


def saved_sites(tree: xr.DataTree, names: Collection[str], *, thinned: bool = True) -> dict[str, np.ndarray]:
    """Site values of the draws, S of them in one row, chain by chain: name -> (S, ...).

    Args:
        tree: the fit.
        names: the sites of its model (:func:`site_names`).
        thinned: only the draws that the group ``memory`` was made from; False gives all.
    """
    group = tree["posterior"].to_dataset()
    if thinned:
        group = group.sel(draw=variable(tree, "invariant", "draw").values)
    sites = {str(name): values.values for name, values in group.data_vars.items() if name in names}
    return {name: values.reshape(-1, *values.shape[2:]) for name, values in sites.items()}


def on_device(sites: Mapping[str, np.ndarray | np.generic]) -> Params:
    """Site values as JAX arrays. What is chosen of them is chosen in NumPy: here each choice would need a program."""
    return {name: jax.device_put(value) for name, value in sites.items()}


class Saved:
    """The tree of a fit, read where it is asked for.

    Attributes:
        tree: the fit.
        model: the program that was fitted.
    """

    def __init__(self, tree: xr.DataTree, model: Mixture) -> None:
        self.tree = tree
        self.model = model

    @cached_property
    def units(self) -> Standardiser:
        """Between the units of the data and those of the model."""
        return saved_units(self.tree)

    @cached_property
    def draws(self) -> Draws:
        """The thinned draws."""
        kept = variable(self.tree, "invariant", "draw").values
        lp = variable(self.tree, "sample_stats", "lp").sel(draw=kept).values
        return Draws(self.model, on_device(saved_sites(self.tree, site_names(self.model))), lp.reshape(-1), kept)

    @cached_property
    def permutation(self) -> Int[np.ndarray, "S K"]:
        """Memory k as numbered is memory ``permutation[s, k]`` of draw s."""
        return np.asarray(variable(self.tree, "memory", "permutation").values)

    @cached_property
    def weights(self) -> Float[np.ndarray, " K"]:
        """Posterior mean of the weight of each numbered memory."""
        return np.asarray(variable(self.tree, "memory", "weight").values)

    @property
    def num_occupied(self) -> int:
        """Memories that hold data in half of the draws or more."""
        return int(np.sum(variable(self.tree, "memory", "occupied").values >= 0.5))

    @cached_property
    def x(self) -> Float[np.ndarray, "N D"]:
        """The data in the units of the model, a missing entry at its conditional mean."""
        rows = rows_of(self.tree).values
        return np.asarray(self.units.apply(rows), rows.dtype)

    @cached_property
    def rows(self) -> Int[np.ndarray, " R"]:
        """The data of the co-clustering matrix."""
        if has(self.tree, "partition"):
            return np.asarray(variable(self.tree, "partition", "row").values)
        return compared_rows(len(self.x))

    @cached_property
    def confidence(self) -> Float[np.ndarray, " N"]:
        """Probability of the label of each datum."""
        if has(self.tree, "partition"):
            return np.asarray(variable(self.tree, "partition", "confidence").values)
        return np.asarray(self._responsibilities.max(axis=1))

    @cached_property
    def label(self) -> Int[np.ndarray, " N"]:
        """The memory of each datum."""
        if has(self.tree, "partition"):
            return np.asarray(variable(self.tree, "partition", "label").values)
        return np.asarray(self._responsibilities.argmax(axis=1))

    @cached_property
    def _responsibilities(self) -> Float[np.ndarray, "N K"]:
        data, draws = saved_data(self.tree), self.draws
        return responsibilities(self.model, draws.sites, self.permutation, data.x, data.allowed)
