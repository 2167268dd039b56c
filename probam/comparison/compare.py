r"""Several fits side by side: held-out log score, leave-one-out, information criteria, evidence, agreement with labels.

What a column says, and when it is wrong, is in ``docs/inference.md`` ("Choosing a model"). All log densities are nats
in the data's units, so that a fit of standardised data can stand beside one of the data as they are. Differences
between fits are taken datum by datum (both have met the same hard data), and have errors of their own.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import ArrayLike
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

import probam.fits.fit as api
import probam.fits.posterior as posterior
from probam.data.table import as_table
from probam.distributions.direction import FreeDirection
from probam.errors import InputError, NumericalError
from probam.family import Model
from probam.fits.fitted import Fit
from probam.inference.common.coordinates import Coordinates, log_joints, unconstrained
from probam.inference.common.result import Evidence, Progress, silent
from probam.inference.evidence import bridge
from probam.reports.summaries.convergence import invariant_summary
from probam.reports.summaries.criteria import Expected, expected_loo, information, log_mean_exp_error
from probam.reports.summaries.quantities import engine_kind
from probam.reports.tree import has, variable

__all__ = [
    "CrossValidated",
    "HeldOut",
    "compare",
    "compare_engines",
    "comparison_record",
    "comparison_text",
    "cross_validate",
    "evidence",
    "free_parameters",
    "held_out_score",
    "split",
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


def held_out_score(fit: Fit, data: Any) -> HeldOut:
    """Mean log predictive density of ``data``, averaged over draws as :meth:`probam.fits.fitted.Fit.log_prob` does."""
    pointwise = np.asarray(fit.log_prob(data), np.float64)
    mcse = float("nan")
    sites = fit.draws()
    num_draws = len(next(iter(sites.values()))) if sites else 1
    if engine_kind(fit.tree) != "point" and num_draws * len(pointwise) <= _LARGEST and np.isfinite(pointwise).all():
        values = as_table(data, prefer=fit.columns, name="data").values.astype(fit.dtype)
        x = jnp.asarray(fit.standardiser.apply(values))
        density = np.asarray(posterior.density(fit.model, sites, x), np.float64)
        num_chains = fit.tree["posterior"].sizes["chain"]
        mcse = log_mean_exp_error(density.reshape(num_chains, -1, len(pointwise)))
    return HeldOut(float(pointwise.mean()), _mean_error(pointwise), mcse, pointwise)


def free_parameters(model: Model) -> int:
    """Number of free parameters: unconstrained coordinates, less the length of each direction, which means nothing."""
    total = sum(int(np.size(zero)) for zero in Coordinates(model).zeros.values())
    lengths = sum(isinstance(law, FreeDirection) for law in model.prior.values())
    return total - lengths * model.num_components


def evidence(fit: Fit, *, seed: int = 0) -> Evidence:
    """Log evidence of the fitted data, in the data's units: the engine's own, else by bridge sampling from the draws.

    Raises:
        InputError: for a point estimate or an approximation, which has no posterior draws; for more memories than
            bridge sampling can renumber; where the draws are of another density than the model's (some kernels of
            Gibbs, or a loaded fit whose priors were the user's own).
        NumericalError: where bridge sampling fails.
    """
    stored = _stored_evidence(fit)
    if stored is not None:
        return stored
    if engine_kind(fit.tree) != "chains":
        raise InputError(
            f"evidence: engine {fit.tree.attrs['engine']!r} has no draws of the posterior; use engine 'smc' or 'nuts'"
        )
    with jax.enable_x64(fit.dtype == np.float64):
        draws = variable(fit.tree, "invariant", "draw").values
        group = fit.tree["posterior"].to_dataset().sel(draw=draws)
        sites = {name: group[name].values for name in Coordinates(fit.model).transforms}
        x = np.asarray(fit.standardiser.apply(variable(fit.tree, "observed_data", "x").values), fit.dtype)
        _check_target(fit, sites, x, variable(fit.tree, "sample_stats", "lp").sel(draw=draws).values)
        shape = (group.sizes["chain"], group.sizes["draw"], -1)
        permutations = variable(fit.tree, "memory", "permutation").values.reshape(shape)
        found = bridge.log_evidence(jax.random.key(seed), fit.model, jnp.asarray(x), sites, permutations=permutations)
    jacobian = float(fit.standardiser.log_jacobians(x).sum())
    return found._replace(runs=found.runs + jacobian, log_evidence=found.log_evidence + jacobian)


def _check_target(fit: Fit, sites: Mapping[str, np.ndarray], x: np.ndarray, lp: Float[np.ndarray, "C S"]) -> None:
    """Raise where the log joint density that the engine wrote is not the model's."""
    some = {name: jnp.asarray(value[0, :_CHECKED]) for name, value in sites.items()}
    found = np.asarray(log_joints(fit.model, unconstrained(fit.model, some), jnp.asarray(x)), np.float64)
    said = np.asarray(lp[0, :_CHECKED], np.float64)
    scale = np.maximum(np.abs(said), len(x))
    if not np.all(np.abs(found - said) <= 10 * np.sqrt(np.finfo(fit.dtype).eps) * scale):
        raise InputError(
            "evidence: the draws are not of this model's posterior (another target of engine 'gibbs', or priors of "
            "one's own, which a saved fit does not keep); fit again, with engine 'smc' or 'nuts'"
        )


def _stored_evidence(fit: Fit) -> Evidence | None:
    """What the engine found (group ``evidence``, data units)."""
    if not has(fit.tree, "evidence", "log_evidence"):
        return None
    said = fit.tree["evidence"].attrs
    runs = np.atleast_1d(variable(fit.tree, "evidence", "log_evidence").values)
    return Evidence(runs, float(said["log_evidence"]), float(said["se"]), str(said["method"]))


def compare(
    fits: Mapping[str, Fit],
    held_out: Any = None,
    labels: ArrayLike | None = None,
    *,
    bridged: bool = False,
    seed: int = 0,
) -> pd.DataFrame:
    """One row a fit, the best first: by held-out log score where ``held_out`` is given, else by leave-one-out.

    Args:
        fits: fits by the name that the table calls them.
        held_out: data that no fit has seen (anything that ``probam.fit`` reads, with the same columns).
        labels: the true label of each row of ``held_out`` where that is given, else of each datum that was fitted.
        bridged: estimate the evidence of sampled fits that bring none by bridge sampling.
        seed: of bridge sampling.

    Returns:
        Columns ``engine``, ``memories`` (that hold data, on average), ``log_score`` (nats per datum) with
        ``log_score_se`` (over data), ``log_score_mcse`` (over draws), ``log_score_diff`` to the best and its
        ``log_score_diff_se``; ``elpd_loo`` (nats) with ``elpd_se``, ``elpd_mcse``, ``elpd_diff``, ``elpd_diff_se`` and
        ``bad_k`` (data with a high Pareto k); ``bic``, ``icl`` (smaller is better); ``log_evidence``, ``evidence_se``;
        ``ari``, ``nmi``; ``seconds``, ``ess_per_second`` (the least bulk ESS of the label-invariant quantities).
        NaN where a column does not apply to a fit. ``frame.attrs["notes"]`` says why, fit by fit.

    Raises:
        InputError: where there is nothing to compare, or data and labels do not fit.
    """
    if not fits:
        raise InputError("fits: expected at least one; got none")
    columns = {name: fit.columns for name, fit in fits.items()}
    first = next(iter(columns))
    for name, found in columns.items():
        if len(found) != len(columns[first]):
            raise InputError(
                f"fits: {first!r} has {len(columns[first])} features and {name!r} {len(found)}; compare fits of the "
                "same columns"
            )
    same_data = _same_data(list(fits.values()))
    notes: dict[str, list[str]] = {name: [] for name in fits}
    rows: dict[str, dict[str, Any]] = {}
    scores: dict[str, np.ndarray] = {}
    elpds: dict[str, np.ndarray] = {}
    for name, fit in fits.items():
        row, scored, expected = _row(fit, held_out, labels, notes[name], bridged=bridged, seed=seed)
        rows[name] = row
        if scored is not None:
            scores[name] = scored.pointwise
        if expected is not None:
            elpds[name] = expected.pointwise
    frame = pd.DataFrame.from_dict(rows, orient="index")
    frame[["log_score_diff", "log_score_diff_se"]] = _differences(frame.index, scores, per_datum=True)
    comparable = elpds if same_data else {}
    frame[["elpd_diff", "elpd_diff_se"]] = _differences(frame.index, comparable, per_datum=False)
    frame = frame[list(_COLUMNS)]
    key = "log_score" if held_out is not None else "elpd_loo"
    frame = frame.sort_values(key, ascending=False, kind="stable", na_position="last")
    if not same_data:
        for said in notes.values():
            said.append("not all fits have the same data: leave-one-out, BIC, ICL and evidence cannot be compared")
    frame.attrs["notes"] = {name: said for name, said in notes.items() if said}
    return frame


_COLUMNS = {
    "engine": "",
    "memories": ".2f",
    "log_score": ".4f",
    "log_score_se": ".4f",
    "log_score_mcse": ".4f",
    "log_score_diff": ".4f",
    "log_score_diff_se": ".4f",
    "elpd_loo": ".1f",
    "elpd_se": ".1f",
    "elpd_mcse": ".2f",
    "elpd_diff": ".1f",
    "elpd_diff_se": ".1f",
    "bad_k": ".0f",
    "bic": ".1f",
    "icl": ".1f",
    "log_evidence": ".2f",
    "evidence_se": ".2f",
    "ari": ".3f",
    "nmi": ".3f",
    "seconds": ".1f",
    "ess_per_second": ".1f",
}
"""Columns in their order, and how they are written for the terminal."""


def _row(
    fit: Fit, held_out: Any, labels: ArrayLike | None, notes: list[str], *, bridged: bool, seed: int
) -> tuple[dict[str, Any], HeldOut | None, Expected | None]:
    """One fit's row but for the differences, its pointwise scores, and in ``notes`` what does not apply and why."""
    tree = fit.tree
    row: dict[str, Any] = dict.fromkeys(_COLUMNS, np.nan)
    row["engine"] = str(tree.attrs["engine"])
    row["memories"] = float(variable(tree, "invariant", "num_occupied").mean())
    row["seconds"] = float(tree.attrs["seconds"])
    scored = expected = None
    if held_out is not None:
        scored = held_out_score(fit, held_out)
        row |= {"log_score": scored.mean, "log_score_se": scored.se, "log_score_mcse": scored.mcse}
    try:
        expected = expected_loo(tree)
        row |= {"elpd_loo": expected.elpd, "elpd_se": expected.se, "elpd_mcse": expected.mcse}
        row["bad_k"] = expected.num_bad
        if expected.num_bad:
            notes.append(f"leave-one-out is not to be trusted at {expected.num_bad} data (Pareto k above 0.7)")
    except InputError as error:
        notes.append(str(error))
    if engine_kind(tree) == "point":
        try:
            found = information(tree, free_parameters(fit.model))
            row |= {"bic": found.bic, "icl": found.icl}
            if row["engine"] == "clam":
                notes.append("BIC and ICL are at memories of least recall error; they are meant for maximum likelihood")
            elif fit.options.get("estimate", "map") != "ml":
                notes.append("BIC and ICL are at a maximum a posteriori; they are meant for estimate='ml'")
        except InputError as error:
            notes.append(str(error))
    try:
        weighed = evidence(fit, seed=seed) if bridged else _stored_evidence(fit)
        if weighed is not None:
            row |= {"log_evidence": weighed.log_evidence, "evidence_se": weighed.se}
    except (InputError, NumericalError) as error:
        notes.append(str(error))
    if labels is not None:
        truth = np.asarray(labels).ravel()
        given = fit.predict(held_out)["label"] if held_out is not None else variable(tree, "partition", "label")
        if len(truth) != given.size:
            which = "fitted data" if held_out is None else "held-out rows"
            raise InputError(f"labels: expected one for each of {given.size} {which}; got {len(truth)}")
        row["ari"] = float(adjusted_rand_score(truth, given.values))
        row["nmi"] = float(normalized_mutual_info_score(truth, given.values))
    if engine_kind(tree) == "chains":
        least = invariant_summary(tree)["ess_bulk"].min()
        row["ess_per_second"] = float(least) / row["seconds"] if pd.notna(least) and row["seconds"] > 0 else np.nan
    return row, scored, expected


def _differences(names: "pd.Index[Any]", pointwise: Mapping[str, np.ndarray], *, per_datum: bool) -> pd.DataFrame:
    """Difference of each fit to the best, and its paired standard error."""
    found = pd.DataFrame(np.nan, index=names, columns=["diff", "se"])
    if not pointwise:
        return found
    best = max(pointwise, key=lambda name: float(pointwise[name].mean()))
    for name, values in pointwise.items():
        gap = values - pointwise[best]
        scale = 1.0 if per_datum else float(len(gap))
        if np.isfinite(gap).all():
            found.loc[name] = [scale * gap.mean(), scale * _mean_error(gap)]
    return found


def _mean_error(pointwise: Float[np.ndarray, " N"]) -> float:
    """Standard error of a mean over data."""
    if len(pointwise) < 2 or not np.isfinite(pointwise).all():
        return float("nan")
    return float(pointwise.std(ddof=1) / np.sqrt(len(pointwise)))


def _same_data(fits: Sequence[Fit]) -> bool:
    first = variable(fits[0].tree, "observed_data", "x").values
    others = (variable(fit.tree, "observed_data", "x").values for fit in fits[1:])
    return all(np.array_equal(first, x, equal_nan=True) for x in others)


def comparison_text(frame: pd.DataFrame) -> str:
    """The table for a terminal: columns that say something, and the notes below."""
    shown = frame.dropna(axis=1, how="all")
    written = pd.DataFrame(
        {
            name: [
                str(value) if not how else ("" if pd.isna(value) else format(float(value), how))
                for value in shown[name]
            ]
            for name, how in _COLUMNS.items()
            if name in shown
        },
        index=shown.index,
    )
    lines = [written.to_string()]
    for name, said in frame.attrs.get("notes", {}).items():
        lines += [f"{name}: {note}" for note in said]
    return "\n".join(lines)


def comparison_record(frame: pd.DataFrame) -> dict[str, Any]:
    """The table as JSON can say it: ``fits``, one record each, the best first (null where NaN), and ``notes``."""
    fits = [
        {"name": str(name)} | {column: None if pd.isna(value) else value for column, value in row.items()}
        for name, row in frame.to_dict(orient="index").items()
    ]
    return {"fits": fits, "notes": frame.attrs.get("notes", {})}


# --- fits of one's own ----------------------------------------------------------------------------------------


def split(num_data: int, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers that are fitted and held out, in order; the same seed splits alike."""
    if not 0 < fraction < 1:
        raise InputError(f"held_out: expected a share between 0 and 1; got {fraction}")
    size = round(fraction * num_data)
    if not 0 < size < num_data:
        raise InputError(f"held_out: a share of {fraction} of {num_data} data leaves nothing on one side")
    order = np.random.default_rng(seed).permutation(num_data)
    return np.sort(order[size:]), np.sort(order[:size])


def compare_engines(
    data: Any,
    engines: Sequence[str] = ("em", "svi", "nuts", "gibbs"),
    *,
    held_out: float = 0.2,
    labels: ArrayLike | None = None,
    seed: int = 0,
    engine_options: Mapping[str, Mapping[str, Any]] | None = None,
    bridged: bool = False,
    progress: Progress = silent,
    **model_options: Any,
) -> tuple[pd.DataFrame, dict[str, Fit]]:
    """The same model by several engines on the same data, compared on the same held-out rows.

    Args:
        data: anything that ``probam.fit`` reads.
        engines: their names; one that cannot fit this model is left out, and the note says why.
        held_out: share of the rows that no engine sees.
        labels: the true label of each row of ``data``.
        engine_options: options by engine.
        model_options: what ``probam.fit`` takes besides (``family``, ``weights``, ``components``, ...).

    Returns:
        The table of :func:`compare`, and the fits by engine. ``frame.attrs["notes"]`` names engines left out.
    """
    table = as_table(data)
    rows, others = split(table.num_data, held_out, seed)
    truth = None if labels is None else np.asarray(labels).ravel()
    if truth is not None and len(truth) != table.num_data:
        raise InputError(f"labels: expected one for each of {table.num_data} rows; got {len(truth)}")
    fitted, held = (pd.DataFrame(table.values[chosen], columns=list(table.columns)) for chosen in (rows, others))
    fits, left_out = {}, {}
    for done, engine in enumerate(engines):
        progress(done, len(engines), f"compare: {engine}")
        try:
            options = dict((engine_options or {}).get(engine, {}))
            fits[engine] = api.fit(fitted, engine=engine, seed=seed, **model_options, **options)
        except (InputError, NumericalError) as error:
            left_out[engine] = [str(error)]
    progress(len(engines), len(engines), "compare")
    if not fits:
        raise InputError("engines: none of them fits this model: " + "; ".join(said[0] for said in left_out.values()))
    frame = compare(fits, held, None if truth is None else truth[others], bridged=bridged, seed=seed)
    frame.attrs["notes"] = frame.attrs["notes"] | left_out
    return frame, fits


def cross_validate(
    data: Any, *, num_folds: int = 5, seed: int = 0, progress: Progress = silent, **options: Any
) -> CrossValidated:
    """Log density of each datum under the fit of the other folds (``options`` are those of ``probam.fit``).

    The standard error takes the data for independent and ignores that folds share data, so it is a little low
    (Bengio & Grandvalet 2004).
    """
    table = as_table(data)
    if not 2 <= num_folds <= table.num_data:
        raise InputError(f"num_folds: expected 2 to {table.num_data}, one datum a fold; got {num_folds}")
    fold = np.random.default_rng(seed).permutation(np.arange(table.num_data) % num_folds)
    pointwise = np.full(table.num_data, np.nan)
    for k in range(num_folds):
        progress(k, num_folds, f"fold {k + 1} of {num_folds}")
        inside, outside = (
            pd.DataFrame(table.values[rows], columns=list(table.columns)) for rows in (fold != k, fold == k)
        )
        pointwise[fold == k] = api.fit(inside, seed=seed, **options).log_prob(outside)
    progress(num_folds, num_folds, "cross-validation")
    return CrossValidated(float(pointwise.mean()), _mean_error(pointwise), pointwise, fold)
