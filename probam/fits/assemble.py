"""From a run of an engine to a fit: the draws, and what follows from them for the data, as a DataTree."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Float, Int
from threadpoolctl import threadpool_limits

import probam.fits.groups as groups
import probam.fits.posterior as posterior
from probam.distributions.conditional import conditional
from probam.errors import InputError
from probam.fits.answers import begin, responsibilities
from probam.fits.draws import Draws, Numbering, compared_rows, number_memories, thin
from probam.fits.groups import Group, reason
from probam.fits.outcome import with_outcome
from probam.fits.predictive_check import predictive_check_group
from probam.fits.prepared import Prepared
from probam.inference.common.progress import Reporter
from probam.inference.common.result import EngineResult, Survey
from probam.models.mixture import Mixture
from probam.reports.tree import build_tree

__all__ = ["FURTHER", "KeysToRead", "essential_tree", "fit_tree", "keys_to_read", "tree_of"]

FURTHER = ("partition", "log_likelihood", "posterior_predictive", "predictive_check")
"""Groups that no question to a fit needs: :func:`essential_tree` leaves them for later."""

_PROBES = 5
"""Data at which the energy is followed from draw to draw."""

_LARGEST_LOG_LIKELIHOOD = 20_000_000
"""Most values (draws x data) of the group ``log_likelihood``; it is left out where there are more."""

_STAGES = 3


class KeysToRead(NamedTuple):
    """What is drawn with when the result of an engine is read."""

    labels: jax.Array
    predictive: jax.Array
    """Of replicated data."""
    probe: jax.Array
    check: jax.Array
    """Of the check of replicated data."""


def keys_to_read(key: jax.Array) -> KeysToRead:
    """Keys made of one. It is called by a compiled function: alone each of them would be a program."""
    labels, predictive, probe = jax.random.split(key, 3)
    return KeysToRead(labels, predictive, probe, jax.random.fold_in(key, 3))


def fit_tree(
    model: Mixture,
    prepared: Prepared,
    result: EngineResult,
    keys: KeysToRead,
    attributes: dict[str, Any],
    progress: Reporter,
) -> xr.DataTree:
    """The DataTree of a fit, in the schema of ``docs/architecture.md``, without the groups of
    :mod:`probam.fits.derived`.

    A group that follows from the posterior and cannot be made is left out; the root attribute ``left_out`` says why.

    Args:
        model: the program that was fitted.
        prepared: the data.
        result: what the engine returned.
        keys: for labels and replicated data.
        attributes: the root attributes (family, weights, engine, ...).
        progress: told of the groups that are made.
    """
    stage = _announcing(progress)
    stage(0)
    read = _read(model, prepared, result, keys)
    draws, reading = read.draws, read.reading
    positions = _completed(draws, prepared)
    stage(1)
    owners = _owners(draws, read.numbering, prepared)
    collected = _essential(model, prepared, result, read)
    with threadpool_limits(limits=1, user_api="blas"):  # many small products: threads would wait for each other
        collected.derive("partition", lambda: groups.partition_group(reading, owners))
        collected.derive("log_likelihood", lambda: _log_likelihood(draws, reading, prepared))
        stage(2)
        collected.derive("posterior_predictive", lambda: groups.predictive_group(keys.predictive, draws, prepared))
        collected.derive("predictive_check", lambda: predictive_check_group(keys.check, draws, prepared))
    stage(3)
    return with_outcome(tree_of(collected.made, attributes | collected.reasons(), prepared, positions), model)


def essential_tree(
    model: Mixture,
    prepared: Prepared,
    result: EngineResult,
    keys: KeysToRead,
    attributes: dict[str, Any],
    progress: Reporter,
) -> xr.DataTree:
    """:func:`fit_tree` without the groups of :data:`FURTHER`, which the root attribute ``pending`` names.

    Args:
        model: the program that was fitted.
        prepared: the data.
        result: what the engine returned.
        keys: those of the fit for its groups.
        attributes: the root attributes.
        progress: told of the groups that are made.
    """
    stage = _announcing(progress)
    stage(0)
    read = _read(model, prepared, result, keys)
    positions = _completed(read.draws, prepared)
    collected = _essential(model, prepared, result, read)
    stage(3)
    attributes = attributes | collected.reasons() | {"pending": list(FURTHER)}
    return with_outcome(tree_of(collected.made, attributes, prepared, positions), model)


def _owners(draws: Draws, numbering: Numbering, prepared: Prepared) -> groups.Owners:
    """Whom the data belong to, without a table of all responsibilities where there are many data."""
    rows, model, sites, allowed = compared_rows(len(prepared.x)), draws.model, draws.sites, prepared.allowed
    is_point, is_all = len(draws) == 1, len(rows) == len(prepared.x)
    told = begin(model, sites, numbering.permutation, prepared.x, each=is_point and is_all, allowed=allowed)()
    resp = told.responsibilities
    if is_point and resp is None:
        its_allowed = None if allowed is None else allowed[rows]
        resp = responsibilities(model, sites, numbering.permutation, prepared.x[rows], its_allowed)
    confidence = np.asarray(told.confidence)
    label = np.where(np.isnan(confidence), 0, np.asarray(told.label))
    return groups.Owners(label, confidence, rows, None if resp is None else np.asarray(resp))


class _Read(NamedTuple):
    """The draws of an engine, and what they say of the data."""

    draws: Draws
    reading: posterior.Reading
    probes: Int[np.ndarray, " Q"]
    numbering: Numbering
    survey: Survey | None


def _read(model: Mixture, prepared: Prepared, result: EngineResult, keys: KeysToRead) -> _Read:
    """Read the data under the draws, and number the memories alike."""
    x, allowed = jax.device_put(prepared.x), prepared.allowed
    draws = thin(model, result, len(prepared.x))
    probes = _probes(keys.probe, prepared)
    pairs = np.stack([probes, np.roll(probes, 1)], axis=1)
    reading = posterior.read(model, draws.sites, keys.labels, x, pairs, allowed, most_probable=len(draws) == 1)
    counted = None if prepared.weight is None else prepared.weight > 0
    numbering = number_memories(draws, reading, x, counted=counted, as_labelled=allowed is not None)
    survey = draws.survey_of(result)
    return _Read(draws, reading, probes, numbering.of_all_rows(survey), survey)


def _essential(model: Mixture, prepared: Prepared, result: EngineResult, read: _Read) -> "_Groups":
    """The groups that questions to a fit need, and what the engine says of its run."""
    draws, reading, numbering = read.draws, read.reading, read.numbering
    collected = _Groups(
        {
            "posterior": groups.sites_group(model, result.sites),
            "sample_stats": groups.sample_stats_group(result),
            "invariant": groups.invariant_group(draws, reading, read.probes, prepared.weight, read.survey),
            "memory": groups.memory_group(reading, numbering, prepared.units, draws.reference),
        }
    )
    collected.derive("optimisation", lambda: groups.optimisation_group(result))
    collected.derive("evidence", lambda: groups.evidence_group(result.evidence, prepared))
    if (all_rows := groups.all_rows_group(result, prepared)) is not None:
        collected.made["all_rows"] = all_rows
    return collected


def _probes(key: jax.Array, prepared: Prepared) -> Int[np.ndarray, " Q"]:
    """Random data, first of all those whose memory is not known."""
    order = np.random.default_rng(np.asarray(jax.random.key_data(key))).permutation(len(prepared.x))
    if prepared.allowed is not None:
        known = np.any(~prepared.allowed, axis=1)
        order = order[np.argsort(known[order], kind="stable")]
    return order[:_PROBES]


class _Groups:
    """The groups of a fit, and why some that follow from the posterior could not be made.

    Attributes:
        made: groups by name.
        left_out: the reason by name of the group.
    """

    def __init__(self, made: dict[str, Group]) -> None:
        self.made = made
        self.left_out: dict[str, str] = {}

    def derive(self, name: str, make: Callable[[], Group | None]) -> None:
        """Make a group that follows from the posterior; its failure, whatever it is, must not lose the posterior.

        A family of the user's own runs in here, so that any exception can come.
        """
        try:
            group = make()
        except Exception as error:
            self.left_out[name] = reason(name, error)
        else:
            if group is not None:
                self.made[name] = group

    def reasons(self) -> dict[str, Any]:
        """The root attribute that says why groups are left out, where any is."""
        return {"left_out": self.left_out} if self.left_out else {}


def _log_likelihood(draws: Draws, reading: posterior.Reading, prepared: Prepared) -> Group:
    """Log density of each datum, where there are not too many values."""
    if reading.log_lik.size > _LARGEST_LOG_LIKELIHOOD:
        raise InputError(f"more than {_LARGEST_LOG_LIKELIHOOD} values")
    return groups.log_likelihood_group(draws, reading, prepared)


def _announcing(progress: Reporter) -> Callable[[int], None]:
    """Says how many of the stages of reading are done."""
    return lambda done: progress(done, _STAGES, "reading the posterior")


def _completed(draws: Draws, prepared: Prepared) -> Float[np.ndarray, "N D"]:
    """The data in the units of the model, a missing entry at its conditional mean given the reference draw."""
    if not draws.model.missing:
        return prepared.x
    mixture = draws.model.mixture(draws.at(draws.reference))
    allowed = None if prepared.allowed is None else jnp.asarray(prepared.allowed)
    return np.asarray(conditional(mixture, jnp.asarray(prepared.x), allowed).mean)


def tree_of(
    made: dict[str, Group], attributes: dict[str, Any], prepared: Prepared, positions: Float[np.ndarray, "N D"]
) -> xr.DataTree:
    """The groups and the data as a DataTree.

    Args:
        made: the groups by name.
        attributes: the root attributes.
        prepared: the data.
        positions: the data in the units of the model, with something to show in place of a missing entry.
    """
    table, units = prepared.table, prepared.units
    missing = np.isnan(prepared.x)
    return build_tree(
        attributes=attributes,
        data=table.values,
        columns=table.columns,
        center=np.asarray(units.center),
        scale=np.asarray(units.scale),
        completed=np.where(missing, units.invert(positions), table.values) if missing.any() else None,
        weight=prepared.weight,
        allowed=prepared.allowed,
        coordinates={
            f"{name}/{dimension}": labels
            for name, group in made.items()
            for dimension, labels in group.coordinates.items()
        },
        group_attributes={name: group.attributes for name, group in made.items()},
        **{name: group.variables for name, group in made.items()},
    )
