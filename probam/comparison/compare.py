r"""Several fits side by side: held-out log score, leave-one-out, information criteria, evidence, agreement with labels.

What each column means, and when it misleads, is in ``docs/inference.md`` ("Choosing a model"). All log densities are
in nats and in the data's units, so that fits of standardised and of original data can be compared. Differences between
fits are paired, datum by datum, and have standard errors of their own.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from probam.comparison.scores import (
    HeldOut,
    attractors_per_memory,
    evidence,
    held_out_score,
    mean_error,
    stored_evidence,
)
from probam.data.table import Table, as_table
from probam.errors import InputError, NumericalError
from probam.fits.fitted import Fit
from probam.inference.common.coordinates import free_parameters
from probam.inference.common.result import Evidence
from probam.options import boolean, whole_number_in
from probam.reports.summaries.contingency import agreement
from probam.reports.summaries.convergence import invariant_summary
from probam.reports.summaries.criteria import Expected, Information, expected_loo, information
from probam.reports.summaries.estimate import NOT_A_COUNT, bounds_memories, estimate_in_words, total_log_likelihood
from probam.reports.summaries.quantities import engine_kind
from probam.reports.tree import has, variable

__all__ = ["compare", "comparison_record", "comparison_text", "differences", "json_value", "named_fits", "same_data"]


def compare(
    fits: Sequence[Fit] | Mapping[str, Fit],
    held_out: Any = None,
    labels: ArrayLike | None = None,
    *,
    bridged: bool = False,
    attractors: bool = False,
    seed: int = 0,
) -> pd.DataFrame:
    """One row per fit, the best first: by held-out log score where ``held_out`` is given, else by leave-one-out.

    Args:
        fits: a list of fits, which the table calls ``fit 1``, ``fit 2``, ...; or a mapping of names to fits.
        held_out: data that no fit has seen (anything that ``probam.fit`` reads, with the same columns).
        labels: the true label of each row of ``held_out`` where that is given, else of each datum that was fitted.
        bridged: estimate the evidence by bridge sampling for sampled fits whose engine does not estimate it.
        attractors: recall with each fit, and count where recall ends (some seconds a fit).
        seed: of bridge sampling.

    Returns:
        Columns ``engine``, ``estimate`` (what was maximised or drawn from), ``log_lik`` (log likelihood of the fitted
        data there, nats, on average over draws), ``memories`` (that hold data, on average), ``attractors_per_memory``
        (:func:`probam.comparison.scores.attractors_per_memory`), ``log_score`` (nats per datum) with ``log_score_se``
        (over data), ``log_score_mcse`` (over draws), ``log_score_diff`` to the best and its ``log_score_diff_se``;
        ``elpd_loo`` (nats) with ``elpd_se``, ``elpd_mcse``, ``elpd_diff``, ``elpd_diff_se`` and ``bad_k`` (data with a
        high Pareto k); ``bic``, ``icl`` (smaller is better); ``log_evidence``, ``evidence_se``; ``ari``, ``nmi``,
        ``ari_recall`` (of the memories where recall ends); ``seconds``, ``ess_per_second`` (the least bulk ESS of the
        label-invariant quantities).
        NaN where a column does not apply to a fit. ``frame.attrs["notes"]`` says why, fit by fit.

    Raises:
        InputError: where there is nothing to compare, or fits, data and labels do not match.
    """
    named = named_fits(fits)
    boolean("bridged", bridged)
    boolean("attractors", attractors)
    whole_number_in("a whole number from 0 to 2^32 - 1", 0, 2**32 - 1)("seed", seed)
    rows = {name: _row(fit, held_out, labels, bridged=bridged, seed=seed) for name, fit in named.items()}
    if attractors:
        for name, fit in named.items():
            _recall(fit, rows[name], held_out, labels)
    alike_data = same_data(list(named.values()))
    frame = pd.DataFrame.from_dict({name: row.columns for name, row in rows.items()}, orient="index")
    alike = len({fit.is_normalised for fit in named.values()}) == 1
    scores = {name: row.held_out.pointwise for name, row in rows.items() if row.held_out is not None and alike}
    elpds = {name: row.loo.pointwise for name, row in rows.items() if row.loo is not None and alike_data}
    frame[["log_score_diff", "log_score_diff_se"]] = differences(frame.index, scores, per_datum=True)
    frame[["elpd_diff", "elpd_diff_se"]] = differences(frame.index, elpds, per_datum=False)
    key = "log_score" if held_out is not None else "elpd_loo"
    frame = frame[list(_COLUMNS)].sort_values(key, ascending=False, kind="stable", na_position="last")
    others = [_OTHER_DATA] * (not alike_data) + [_OTHER_LENGTHS] * (held_out is not None and not alike)
    notes = {name: row.notes + others for name, row in rows.items()}
    frame.attrs["notes"] = {name: sentences for name, sentences in notes.items() if sentences}
    return frame


_OTHER_DATA = "not all fits have the same data: leave-one-out, BIC, ICL and evidence cannot be compared"


_OTHER_LENGTHS = "not all fits divide each row by its length: their log scores cannot be compared"


def named_fits(fits: object) -> Mapping[str, Fit]:
    """The fits by name; :class:`probam.errors.InputError` for what is no collection of comparable fits."""
    expected = "fits: expected a list of fits, or a mapping of names to fits"
    if isinstance(fits, Fit):
        raise InputError(f"{expected}; got one fit; put it into a list, [fit]")
    if isinstance(fits, str | bytes | os.PathLike):
        path = os.fspath(fits)
        raise InputError(f"{expected}; got {path!r}; load a saved fit first, [probam.load({path!r})]")
    if not isinstance(fits, Sequence | Mapping):
        raise InputError(f"{expected}; got {type(fits).__name__}; put the fits into a list")
    if not fits:
        raise InputError(f"{expected}, at least one; got none")
    named = fits if isinstance(fits, Mapping) else {f"fit {i}": fit for i, fit in enumerate(fits, start=1)}
    for name, fit in named.items():
        if not isinstance(fit, Fit):
            is_path = isinstance(fit, str | os.PathLike)
            remedy = (
                "load saved fits first, with probam.load" if is_path else "use what probam.fit or probam.load returns"
            )
            raise InputError(f"{expected}; got {type(fit).__name__} for {name!r}; {remedy}")
    first, *others = named
    for name in others:
        if len(named[name].columns) != len(named[first].columns):
            raise InputError(
                f"fits: {first!r} has {len(named[first].columns)} features and {name!r} "
                f"{len(named[name].columns)}; compare fits of the same columns"
            )
    return named


_COLUMNS = {
    "engine": "",
    "estimate": "",
    "log_lik": ".2f",
    "memories": ".2f",
    "attractors_per_memory": ".2f",
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
    "ari_recall": ".3f",
    "seconds": ".1f",
    "ess_per_second": ".1f",
}
"""Columns in their order, and how they are written for the terminal."""


class _Row(NamedTuple):
    """One fit's columns but for the differences, its pointwise scores, and notes on the columns that stay empty."""

    columns: dict[str, Any]
    held_out: HeldOut | None
    loo: Expected | None
    notes: list[str]


def _row(fit: Fit, held_out: Any, labels: ArrayLike | None, *, bridged: bool, seed: int) -> _Row:
    tree = fit.tree
    notes: list[str] = [f"memories: {NOT_A_COUNT}"] if bounds_memories(tree) else []
    columns: dict[str, Any] = dict.fromkeys(_COLUMNS, np.nan)
    columns["engine"] = str(tree.attrs["engine"])
    columns["estimate"] = estimate_in_words(tree)
    total = total_log_likelihood(tree)
    columns["log_lik"] = np.nan if total is None else float(total.mean())
    columns["memories"] = float(variable(tree, "invariant", "num_occupied").mean())
    columns["seconds"] = float(tree.attrs["seconds"])
    score = table = None
    if held_out is not None:
        table = as_table(held_out, features=fit.columns, name="held_out", missing=True)
        score = held_out_score(fit, table)
        columns |= {"log_score": score.mean, "log_score_se": score.se, "log_score_mcse": score.mcse}
    loo = _leave_one_out(fit, notes)
    if loo is not None:
        columns |= {"elpd_loo": loo.elpd, "elpd_se": loo.se, "elpd_mcse": loo.mcse, "bad_k": loo.num_bad}
    criteria = _information(fit, notes)
    if criteria is not None:
        columns |= {"bic": criteria.bic, "icl": criteria.icl}
    estimate = _evidence_of(fit, notes, bridged=bridged, seed=seed)
    if estimate is not None:
        columns |= {"log_evidence": estimate.log_evidence, "evidence_se": estimate.se}
    if labels is not None:
        columns |= _agreement(fit, table, np.asarray(labels).ravel())
        if table is None and has(tree, "observed_data", "allowed"):
            known = int((variable(tree, "observed_data", "allowed").values == 0).any(axis=1).sum())
            notes.append(f"the memories of {known} fitted data were known; they count in ari and nmi")
    columns["ess_per_second"] = _ess_per_second(fit)
    return _Row(columns, score, loo, notes)


def _leave_one_out(fit: Fit, notes: list[str]) -> Expected | None:
    """Leave-one-out, or None and a note where the fit has none."""
    try:
        loo = expected_loo(fit.tree)
    except InputError as error:
        notes.append(str(error))
        return None
    if loo.num_bad:
        notes.append(f"leave-one-out is unreliable at {loo.num_bad} data (Pareto k above 0.7)")
    return loo


def _information(fit: Fit, notes: list[str]) -> Information | None:
    """BIC and ICL of a point estimate, and a note where it is not a maximum of the likelihood."""
    if engine_kind(fit.tree) != "point":
        return None
    try:
        criteria = information(fit.tree, free_parameters(fit.model))
    except InputError as error:
        notes.append(str(error))
        return None
    if criteria.estimate != "maximum likelihood":
        notes.append(f"BIC and ICL are taken at: {criteria.estimate}; they are meant for maximum likelihood")
    return criteria


def _evidence_of(fit: Fit, notes: list[str], *, bridged: bool, seed: int) -> Evidence | None:
    """The evidence that the engine stored; where ``bridged``, else one by bridge sampling."""
    try:
        return evidence(fit, seed=seed) if bridged else stored_evidence(fit)
    except (InputError, NumericalError) as error:
        notes.append(str(error))
        return None


def _agreement(fit: Fit, held_out: Table | None, truth: np.ndarray) -> dict[str, float]:
    """Adjusted Rand index and normalised mutual information of true labels and those of the fit."""
    if held_out is None:
        which, predicted = "fitted data", variable(fit.tree, "partition", "label").values
    else:
        which, predicted = "held-out rows", fit.predict(held_out)["label"].values
    if len(truth) != len(predicted):
        raise InputError(f"labels: expected one for each of {len(predicted)} {which}; got {len(truth)}")
    scores = agreement(truth, predicted)
    return {"ari": scores.ari, "nmi": scores.nmi}


def _recall(fit: Fit, row: _Row, held_out: Any, labels: ArrayLike | None) -> None:
    """Fill in the columns that need recall: fixed points per memory, and labels by where recall ends."""
    try:
        row.columns["attractors_per_memory"] = attractors_per_memory(fit)
        if labels is not None:
            queries = variable(fit.tree, "observed_data", "x").values if held_out is None else held_out
            basin = fit.recall(queries)["basin"].values
            row.columns["ari_recall"] = agreement(np.asarray(labels).ravel(), basin).ari
    except InputError as error:
        row.notes.append(f"attractors: {error}")


def _ess_per_second(fit: Fit) -> float:
    """The least bulk ESS of the label-invariant quantities per second; NaN where the fit has no chains."""
    seconds = float(fit.tree.attrs["seconds"])
    if engine_kind(fit.tree) != "chains" or seconds <= 0:
        return float("nan")
    least = invariant_summary(fit.tree)["ess_bulk"].min()
    return float(least) / seconds if pd.notna(least) else float("nan")


def differences(names: "pd.Index[Any]", pointwise: Mapping[Any, np.ndarray], *, per_datum: bool) -> pd.DataFrame:
    """Difference of each fit to the best, and its paired standard error.

    Args:
        names: rows of the result.
        pointwise: the log density of each datum, by name; rows without one have no difference.
        per_datum: differences of means over the data, and not of sums.
    """
    found = pd.DataFrame(np.nan, index=names, columns=["diff", "se"])
    if not pointwise:
        return found
    best = max(pointwise, key=lambda name: float(pointwise[name].mean()))
    for name, values in pointwise.items():
        gap = values - pointwise[best]
        scale = 1.0 if per_datum else float(len(gap))
        if np.isfinite(gap).all():
            found.loc[name, :] = [scale * gap.mean(), scale * mean_error(gap)]
    return found


def same_data(fits: Sequence[Fit]) -> bool:
    """Whether all fits have the same rows, weights of the data and known labels.

    Rows are compared in the lowest precision of the fits, so that single precision does not make them others.
    """
    first, *others = (fit.tree["observed_data"].to_dataset() for fit in fits)
    names = [name for name in ("x", "weight", "allowed") if name in first]
    for other in others:
        if [name for name in ("x", "weight", "allowed") if name in other] != names:
            return False
        for name in names:
            one, two = first[name].values, other[name].values
            dtype = min(one.dtype, two.dtype, key=lambda each: each.itemsize)
            if not np.array_equal(one.astype(dtype), two.astype(dtype), equal_nan=dtype.kind == "f"):
                return False
    return True


def comparison_text(frame: pd.DataFrame) -> str:
    """What each fit is, the table for a terminal without empty columns, and the notes below it.

    Args:
        frame: what :func:`compare` returns.
    """

    def cell(value: Any, how: str) -> str:
        if not how:
            return str(value)
        return "" if pd.isna(value) else format(float(value), how)

    shown = frame.drop(columns="estimate").dropna(axis=1, how="all")
    cells = {name: [cell(value, how) for value in shown[name]] for name, how in _COLUMNS.items() if name in shown}
    lines = []
    for name, row in frame.iterrows():
        fitted = "" if pd.isna(row["log_lik"]) else f", log likelihood {row['log_lik']:.2f} nats"
        lines.append(f"{name}: {row['estimate']}{fitted}")
    lines += ["", pd.DataFrame(cells, index=shown.index).to_string()]
    for name, notes in frame.attrs.get("notes", {}).items():
        lines += [f"{name}: {note}" for note in notes]
    return "\n".join(lines)


def comparison_record(frame: pd.DataFrame) -> dict[str, Any]:
    """The table as JSON, also that of ``probam compare --json``.

    Args:
        frame: what :func:`compare` returns.

    Returns:
        ``fits`` maps the name of each fit, the best first, to its columns (null where a number is missing or
        infinite); ``notes`` maps names to lists of sentences.
    """
    fits = {
        str(name): {column: json_value(value) for column, value in row.items()}
        for name, row in frame.to_dict(orient="index").items()
    }
    return {"fits": fits, "notes": frame.attrs.get("notes", {})}


def json_value(value: Any) -> Any:
    """A value of a table as JSON has it: None for a number that is missing or infinite."""
    return None if isinstance(value, float) and not np.isfinite(value) else value
