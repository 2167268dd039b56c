r"""Scores of one fit: held-out log density, cross-validation, evidence.

All log densities are in nats and in the data's units, so that fits of standardised and of original data can be
compared. Leave-one-out and the information criteria are in :mod:`probam.reports.summaries.criteria`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

import probam.fits.fit as api
import probam.fits.posterior as posterior
from probam.comparison.splits import of_rows, read_once, rows_of_table
from probam.errors import InputError
from probam.family import Model
from probam.fits.choices import precision
from probam.fits.fitted import Fit
from probam.inference.common.coordinates import Coordinates, log_joints, unconstrained
from probam.inference.common.progress import Listener, Reporter
from probam.inference.common.result import Evidence
from probam.inference.common.rows import counted
from probam.inference.evidence import bridge
from probam.options import whole_number_in
from probam.reports.summaries.criteria import log_mean_exp_error
from probam.reports.summaries.quantities import engine_kind
from probam.reports.tree import has, variable

__all__ = [
    "CrossValidated",
    "HeldOut",
    "attractors_per_memory",
    "cross_validate",
    "evidence",
    "held_out_score",
    "mean_error",
    "stored_evidence",
]

_CHECKED = 3
"""Draws at which the log joint density is computed again."""

_LARGEST = 20_000_000
"""Most densities (draws x data) that are held at once for a Monte Carlo error."""


class HeldOut(NamedTuple):
    """Log predictive density of data that were not fitted, nats per datum, data units."""

    mean: float
    se: float  # over data
    mcse: float  # over posterior draws; NaN for a point estimate or where there is too much to hold
    pointwise: Float[np.ndarray, " N"]


class CrossValidated(NamedTuple):
    """Held-out log density of every datum by the fit of the other folds."""

    mean: float  # nats per datum
    se: float  # over data
    pointwise: Float[np.ndarray, " N"]
    fold: np.ndarray  # (N,): the fold that each datum was held out in


def attractors_per_memory(fit: Fit) -> float:
    """Fixed points of recall for each memory that holds data, averaged over draws.

    One where every memory is recalled as itself; below one where wells have merged, above it where recall has ends
    that are no memory's. The fixed points are those of the group ``recall``, which is made now where the fit does not
    have it: recall starts from data, memories and centres of memories, so that their number is a lower bound.

    Args:
        fit: a fit whose memories have dynamics.

    Raises:
        InputError: for a fit without the group, with the reason.
    """
    found = fit.group("recall")["num_attractors"]
    return float((found / variable(fit.tree, "invariant", "num_occupied")).mean())


def held_out_score(fit: Fit, data: Any) -> HeldOut:
    """Mean log predictive density of data that were not fitted.

    Args:
        fit: a fit; its draws are averaged as :meth:`probam.fits.fitted.Fit.log_prob` does.
        data: anything that ``probam.fit`` reads, with the columns of the fit.
    """
    pointwise = np.asarray(fit.log_prob(data), np.float64)
    mcse = float("nan")
    sites = fit.draws()
    num_draws = len(next(iter(sites.values()))) if sites else 1
    if engine_kind(fit.tree) != "point" and num_draws * len(pointwise) <= _LARGEST and np.isfinite(pointwise).all():
        values = fit.table(data, missing=True).values.astype(fit.dtype)
        x = fit.standardiser.apply(values)
        density = posterior.density(fit.model_for(x), sites, x).astype(np.float64)
        num_chains = fit.tree["posterior"].sizes["chain"]
        mcse = log_mean_exp_error(density.reshape(num_chains, -1, len(pointwise)))
    return HeldOut(float(pointwise.mean()), mean_error(pointwise), mcse, pointwise)


def cross_validate(
    data: Any, *, num_folds: int = 5, seed: int = 0, progress: Listener | None = None, **options: Any
) -> CrossValidated:
    """Log density of each datum under the fit of the other folds.

    The standard error treats the data as independent and ignores that folds share data, so it is a little too small
    (Bengio & Grandvalet 2004).

    Args:
        data: anything that ``probam.fit`` reads.
        num_folds: from 2 to the number of data.
        seed: of the folds and of every fit.
        progress: told of the folds that are done. Where it raises ``probam.Stop``, nothing is kept.
        options: other arguments of ``probam.fit``. Weights of the data and known labels go with their rows. A datum
            that is held out counts once, with the density of its features alone.
    """
    table, options = read_once(data, options)
    whole_number_in(f"2 to {table.num_data}, the number of data", 2, table.num_data)("num_folds", num_folds)
    fold = np.random.default_rng(seed).permutation(np.arange(table.num_data) % num_folds)
    pointwise = np.full(table.num_data, np.nan)
    report = Reporter(
        progress, nothing_kept="cross-validation: stopped before every row was held out once; nothing is kept"
    )
    for k in range(num_folds):
        report(k, num_folds, f"fold {k + 1} of {num_folds}")
        inside, outside = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        fitted = api.fit(rows_of_table(table, inside), seed=seed, **of_rows(options, inside, table.num_data))
        pointwise[outside] = fitted.log_prob(rows_of_table(table, outside))
    report(num_folds, num_folds, "cross-validation")
    return CrossValidated(float(pointwise.mean()), mean_error(pointwise), pointwise, fold)


def evidence(fit: Fit, *, seed: int = 0) -> Evidence:
    """Log evidence of the fitted data, in nats and in the data's units.

    Args:
        fit: a fit whose engine estimated the evidence (``smc``), or one with posterior draws for bridge sampling.
        seed: of bridge sampling.

    Raises:
        InputError: for a point estimate or an approximation, which has no posterior draws; for more memories than
            bridge sampling can renumber, or where known labels tell some of them apart and not all; where the draws are
            of another density than the model's (some kernels of Gibbs, or a loaded fit with a prior of the user's own
            that its file could not hold).
        NumericalError: where bridge sampling fails.
    """
    stored = stored_evidence(fit)
    if stored is not None:
        return stored
    if engine_kind(fit.tree) != "chains":
        raise InputError(
            f"evidence: engine {fit.tree.attrs['engine']!r} has no draws of the posterior; use engine 'smc' or 'nuts'"
        )
    with precision(fit.dtype):
        weight, allowed = _known_of_rows(fit)
        draws = variable(fit.tree, "invariant", "draw").values
        group = fit.tree["posterior"].to_dataset().sel(draw=draws)
        sites = {name: group[name].values for name in Coordinates(fit.model).transforms}
        values = variable(fit.tree, "observed_data", "x").values
        x = jnp.asarray(fit.standardiser.apply(values), fit.dtype)
        model, x = counted(fit.model, x, weight, allowed)
        _check_target(model, sites, x, variable(fit.tree, "sample_stats", "lp").sel(draw=draws).values)
        shape = (group.sizes["chain"], group.sizes["draw"], -1)
        permutations = variable(fit.tree, "memory", "permutation").values.reshape(shape)
        key = jax.random.key(seed)
        estimate = bridge.log_evidence(key, model, x, sites, permutations=permutations)
    jacobian = fit.total_log_jacobian()
    return estimate._replace(runs=estimate.runs + jacobian, log_evidence=estimate.log_evidence + jacobian)


def _known_of_rows(fit: Fit) -> tuple[np.ndarray | None, np.ndarray | None]:
    """How often each fitted row counted, and to which memories it may belong; None where the fit was not told.

    Raises :class:`probam.errors.InputError` where labels leave memories that can be renumbered: then draws of one
    numbering have a part of the evidence only.
    """
    observed = fit.tree["observed_data"].to_dataset()
    weight = observed["weight"].values if "weight" in observed else None
    if "allowed" not in observed:
        return weight, None
    allowed = observed["allowed"].values.astype(bool)
    if fit.model.weights.name in bridge.EXCHANGEABLE and np.unique(allowed, axis=1).shape[1] < allowed.shape[1]:
        raise InputError(
            "evidence: the known labels do not tell all memories apart, and bridge sampling cannot renumber some of "
            "them; fit with engine 'smc', which estimates the evidence"
        )
    return weight, allowed


def _check_target(model: Model, sites: Mapping[str, np.ndarray], x: jax.Array, lp: Float[np.ndarray, "C S"]) -> None:
    """Raise where the log joint density that the engine wrote is not the model's."""
    first = {name: jnp.asarray(value[0, :_CHECKED]) for name, value in sites.items()}
    computed = np.asarray(log_joints(model, unconstrained(model, first), x), np.float64)
    stored = np.asarray(lp[0, :_CHECKED], np.float64)
    scale = np.maximum(np.abs(stored), len(x))
    if not np.all(np.abs(computed - stored) <= 10 * np.sqrt(np.finfo(x.dtype).eps) * scale):
        raise InputError(
            "evidence: the draws are not of this model's posterior (engine 'gibbs' sampled another target, or the fit "
            "was saved with a prior of your own that a file cannot hold); fit again with engine 'smc' or 'nuts'"
        )


def stored_evidence(fit: Fit) -> Evidence | None:
    """What the engine found (group ``evidence``, data units)."""
    if not has(fit.tree, "evidence", "log_evidence"):
        return None
    attributes = fit.tree["evidence"].attrs
    runs = np.atleast_1d(variable(fit.tree, "evidence", "log_evidence").values)
    return Evidence(runs, float(attributes["log_evidence"]), float(attributes["se"]), str(attributes["method"]))


def mean_error(pointwise: Float[np.ndarray, " N"]) -> float:
    """Standard error of a mean over data."""
    if len(pointwise) < 2 or not np.isfinite(pointwise).all():
        return float("nan")
    return float(pointwise.std(ddof=1) / np.sqrt(len(pointwise)))
