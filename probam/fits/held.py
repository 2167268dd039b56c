"""What a fit holds: its tree, which may still be made, the units of the data, and the draws."""

from dataclasses import replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

import probam.fits.pending as pending
from probam.data.standardise import Standardiser
from probam.data.table import Table, has_gaps
from probam.errors import InputError
from probam.family import Params
from probam.fits.arviz_tree import arviz_tree
from probam.fits.derived import DERIVED, with_groups
from probam.fits.questions import question_table, rows_of_family
from probam.fits.saved import on_device, saved_sites, saved_units, site_names
from probam.models.mixture import Mixture
from probam.options import whole_number_in
from probam.reports.summaries.estimate import data_weights, headline
from probam.reports.summaries.quantities import options
from probam.reports.tree import has, num_data, rows_of, variable

__all__ = ["Held"]


class Held:
    """A fit without its questions; :class:`probam.fits.fitted.Fit` has them.

    Attributes:
        model: the NumPyro program that was fitted.
    """

    def __init__(self, tree: xr.DataTree, model: Mixture) -> None:
        if not isinstance(tree, xr.DataTree):
            raise InputError(f"tree: expected the DataTree of a fit; got {type(tree).__name__}; use probam.load or fit")
        if not isinstance(model, Mixture):
            raise InputError(
                f"model: expected the mixture that was fitted; got {type(model).__name__}; use probam.load"
            )
        self.model = model
        self._held = tree
        self._with_derived: xr.DataTree | None = None

    @property
    def tree(self) -> xr.DataTree:
        """The fit as a DataTree in ArviZ's schema, as its file holds it (``docs/architecture.md`` lists its groups).

        Groups that are made when they are asked for are in :meth:`to_datatree` and :meth:`group`.
        """
        if pending.is_pending(self._held):
            self._held = pending.completed(self._held, self.model)
        return self._held

    @property
    def made(self) -> xr.DataTree:
        """What has been made of the tree so far; nothing is made for it."""
        return self._held

    def __reduce__(self) -> tuple[type["Held"], tuple[xr.DataTree, Mixture]]:
        """For pickles and copies: arrays of NumPy, since those of JAX lose digits where it is in single precision."""
        return type(self), (self._held, jax.tree.map(np.asarray, self.model))

    def __repr__(self) -> str:
        attributes = self._held.attrs
        sizes = self._group("posterior").sizes
        draws = f"{sizes['chain']} x {sizes['draw']} draws"
        return f"<probam.Fit: {headline(self._held)}; {attributes['model']}; {attributes['engine']}, {draws}>"

    def _group(self, name: str) -> xr.Dataset:
        return self._tree_with(name)[name].to_dataset()

    def _tree_with(self, name: str) -> xr.DataTree:
        """What is there of the tree, where it has this group; otherwise the whole of it."""
        return self._held if name in self._held.children else self.tree

    # --- groups ------------------------------------------------------------------------------------------------

    def group(self, name: str) -> xr.Dataset:
        """A group of the fit; one of those that are made on demand is made now where the file does not hold it.

        Args:
            name: as in the table of ``docs/architecture.md``.
        """
        tree = self._having(name) if name in DERIVED else self._tree_with(name)
        if name in tree.children:
            return tree[name].to_dataset()
        why = options(tree, "left_out").get(name) or f"it has {', '.join(map(str, tree.children))}"
        raise InputError(f"name: this fit has no group {name!r}: {why}")

    def to_datatree(self) -> xr.DataTree:
        """The fit as a DataTree with all groups; those that the file does not hold are made now."""
        return self._having(*DERIVED)

    def to_arviz(self, *, feature: str | None = None, num_draws: int = 1000, relabelled: bool = True) -> xr.DataTree:
        """The fit as functions of ArviZ take it: the groups that ArviZ knows, all at the same draws.

        Parameters are in the units of the model, data (``x``) in their own; ``docs/arviz.md`` has examples.

        Args:
            feature: the one feature of data and replicated data to have, for functions that compare each datum with its
                replicates (``loo_pit``, ``plot_ppc_pit``, ...). None has all; a fit of one feature has that one.
            num_draws: most draws, over all chains; they are spread evenly.
            relabelled: number the memories alike in all draws; without it they may switch from draw to draw.
        """
        tree = self._having("prior", "prior_predictive", "log_prior")
        return arviz_tree(tree, self.model, num_draws, relabelled=relabelled, feature=feature)

    def _having(self, *names: str) -> xr.DataTree:
        """The tree with derived groups, which are made once."""
        tree = self.tree if self._with_derived is None else self._with_derived
        self._with_derived = with_groups(tree, self.model, names)
        return self._with_derived

    # --- units -------------------------------------------------------------------------------------------------

    @cached_property
    def standardiser(self) -> Standardiser:
        """Converts the units of the data to those of the model and back."""
        return saved_units(self._held)

    def total_log_jacobian(self) -> float:
        """What turns the log density of all fitted rows, as often as they count, in the units of the model into that in
        the units of the data (nats)."""
        if has(self._held, "all_rows"):
            return num_data(self._held) * self.standardiser.log_jacobian()
        x = variable(self._held, "observed_data", "x").values
        return float(data_weights(self._held) @ self.standardiser.log_jacobians(x))

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the features."""
        return tuple(str(name) for name in self._group("observed_data")["feature"].values)

    @cached_property
    def _positions(self) -> np.ndarray:
        """The fitted data (N, D), a missing entry at its conditional mean."""
        return np.asarray(rows_of(self._held).values)

    def model_for(self, x: jax.Array | np.ndarray) -> Mixture:
        """The model for these rows, which integrates missing entries out where there are any."""
        has_missing = has_gaps(np.asarray(x))
        return replace(self.model, missing=True) if has_missing and not self.model.missing else self.model

    @property
    def dtype(self) -> np.dtype[Any]:
        """Precision of the fit."""
        return np.dtype(str(self._held.attrs["dtype"]))

    def table(self, data: Any, name: str = "data", *, missing: bool = False) -> Table:
        """Data as a table of the features of this fit; a fit of normalised rows divides each row by its length.

        Args:
            data: rows of D features, or anything that ``probam.fit`` reads.
            name: what errors call the data.
            missing: allow missing entries; a fit of normalised rows takes none, since such a row has no length.
        """
        return question_table(data, self.columns, name=name, missing=missing, normalised=self.is_normalised)

    @property
    def is_normalised(self) -> bool:
        """Whether each row was divided by its length (``normalise=True``); so are the rows of questions."""
        return bool(self._held.attrs.get("normalised", 0))

    def _rows(self, data: Any, what: str, *, missing: bool = False) -> tuple[Table, np.ndarray]:
        """A table in data units and its rows in model units; ``missing`` allows missing entries if the family does."""
        table = self.table(data, what, missing=missing)
        values = rows_of_family(self.model.family, table, self.dtype)
        return table, self.standardiser.apply(values)

    # --- draws -------------------------------------------------------------------------------------------------

    def draws(self, thinned: bool = True) -> Params:
        """Site values of the draws, S of them in one row, chain by chain: name -> (S, ...).

        Args:
            thinned: only the draws that the group ``memory`` was made from; False gives all.
        """
        return on_device(saved_sites(self._held, self._names, thinned=thinned))

    @cached_property
    def _names(self) -> frozenset[str]:
        return site_names(self.model)

    @property
    def _reference_number(self) -> int:
        return int(self._group("memory").attrs["reference"])

    @cached_property
    def reference(self) -> Params:
        """Site values of the draw with the highest log joint density among the thinned ones."""
        return self._chosen(self._reference_number)

    def _sites_of(self, draw: int | None = None) -> Params:
        """Site values of a thinned draw, None for the reference draw."""
        if draw is None:
            return self.reference
        last = len(self._permutations) - 1
        whole_number_in(f"the number of a thinned draw, from 0 to {last}", 0, last)("draw", draw)
        return self._chosen(draw)

    def _chosen(self, which: int | np.ndarray) -> Params:
        """Site values of one thinned draw, or of several."""
        return on_device({name: value[which] for name, value in saved_sites(self._held, self._names).items()})

    @property
    def _permutations(self) -> jax.Array:
        return jnp.asarray(self._group("memory")["permutation"].values)

    def _relabel(self, memory: np.ndarray, draw: int | None) -> np.ndarray:
        """The numbers that a draw's memories have in the group ``memory``."""
        return np.asarray(np.argsort(self._permutation_of(draw))[memory])

    def _permutation_of(self, draw: int | None) -> np.ndarray:
        """Memory k of the group ``memory`` is memory ``permutation[k]`` of a draw; None for the reference draw."""
        index = self._reference_number if draw is None else draw
        return np.asarray(self._group("memory")["permutation"].values[index])
