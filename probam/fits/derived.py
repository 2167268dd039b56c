"""Groups of a fit that are made when they are asked for: each is a function of the other groups and of the program.

Where one has random numbers their key is fixed.

:func:`with_groups` is the one door: it looks in the tree, then in the folder of the user's cache, then makes them. So
a group has the same bits whenever it is made. What is made is kept in that folder and never written into a file that
was only read.
"""

from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path

import jax
import numpy as np
import xarray as xr

from probam.distributions.supports import innermost
from probam.fits.choices import precision
from probam.fits.groups import Group, reason
from probam.fits.kept import keep, kept, shelf
from probam.fits.saved import Saved
from probam.models.mixture import Mixture
from probam.numerics.steady import steady
from probam.reports.summaries.quantities import options
from probam.reports.tree import group_dataset, has, with_datasets

__all__ = ["DERIVED", "REPORTED", "is_shipped", "with_groups"]


def _made_by(module: str, function: str) -> Callable[[Saved], Group]:
    """A function of a module that is imported when it is called: some bring all energies."""
    return lambda saved: getattr(import_module(f"probam.fits.{module}"), function)(saved)


DERIVED: dict[str, Callable[[Saved], Group]] = {
    "recall": _made_by("recall_group", "recall_group"),
    "verification": _made_by("verification", "verification_group"),
    "prior": _made_by("prior_groups", "prior_group"),
    "prior_predictive": _made_by("prior_groups", "prior_predictive_group"),
    "log_prior": _made_by("prior_groups", "log_prior_group"),
}
"""How each derived group is made."""

REPORTED = ("recall", "verification")
"""Those that the report reads."""

_SOURCES = (
    "posterior",
    "sample_stats",
    "invariant",
    "observed_data",
    "constant_data",
    "memory",
    "partition",
)
"""The groups that derived groups are made of; nothing else is given to their functions."""

_SOURCE_ATTRIBUTES = (
    "family",
    "family_options",
    "weights",
    "weights_options",
    "given_prior",
    "num_components",
    "dtype",
)


def with_groups(tree: xr.DataTree, model: Mixture, names: Iterable[str] = tuple(DERIVED)) -> xr.DataTree:
    """The fit with derived groups; the root attribute ``left_out`` says why one of them cannot be made.

    Args:
        tree: the fit, which is not changed.
        model: the program that was fitted.
        names: the derived groups to have; by default all.
    """
    failed = options(tree, "left_out")
    absent = [name for name in names if not has(tree, name) and name not in failed]
    if not absent:
        return tree
    found: dict[str, xr.Dataset] = {}
    saved = Saved(_sources(tree, model), model)
    place = shelf(saved.tree) if is_shipped(model) else None  # the code of another family may change
    with precision(np.dtype(tree.attrs["dtype"])):
        for name in absent:
            try:
                found[name] = _kept_or_made(saved, name, place)
            except Exception as error:  # a family of the user's own runs in here
                failed[name] = reason(name, error)
    return with_datasets(tree, found, {"left_out": failed} if failed else {})


def is_shipped(model: Mixture) -> bool:
    """Whether the family is one of the package's own, whose code is that of this version."""
    return type(model.family).__module__.startswith("probam.")


def _sources(tree: xr.DataTree, model: Mixture) -> xr.DataTree:
    """What derived groups are functions of: groups of the fit and the prior of its program."""
    attributes = {name: tree.attrs[name] for name in _SOURCE_ATTRIBUTES if name in tree.attrs}
    groups = {name: tree[name].to_dataset() for name in _SOURCES if name in tree.children}
    root = _numbers_of_prior(model).assign_attrs(attributes)
    return xr.DataTree.from_dict({"/": root, **groups})


def _numbers_of_prior(model: Mixture) -> xr.Dataset:
    """The laws of the sites and their numbers, and the numbers of the law of the weights."""
    laws = {name: f"{type(innermost(law)).__name__} {law.shape()}" for name, law in sorted(model.prior.items())}
    numbers = jax.tree.leaves(steady((dict(model.prior), model.weights)))
    variables = {
        f"number_{position}": ([f"number_{position}_{axis}" for axis in range(np.ndim(number))], np.asarray(number))
        for position, number in enumerate(numbers)
    }
    return xr.Dataset(variables, attrs={"laws": repr(laws)})


def _kept_or_made(saved: Saved, name: str, place: Path | None) -> xr.Dataset:
    """A derived group from the user's cache; otherwise it is made and kept there."""
    found = None if place is None else kept(place, name)
    if found is not None:
        return found
    group = DERIVED[name](saved)
    made = group_dataset(saved.tree, name, group.variables, coordinates=group.coordinates, attributes=group.attributes)
    if place is not None:
        keep(place, name, made)
    return made
