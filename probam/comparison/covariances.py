r"""The shape of the covariance and the number of Gaussian memories, chosen by criteria in one call.

Every shape is fitted with every number of memories by EM to the maximum of the likelihood, under free weights: that is
the grid that users of mclust know. BIC and ICL are those of :mod:`probam.reports.summaries.criteria`: smaller is
better, as in scikit-learn; mclust prints their negatives. Leave-one-out and the evidence need draws of the posterior
under the default prior, which cost seconds to minutes a model, so they are computed for the models of best BIC alone.

With D features and K memories the likelihood has :math:`K - 1` free weights, :math:`K D` means and

=========== ====== ============================== ==============================================
covariance  mclust free numbers                   what it allows
=========== ====== ============================== ==============================================
isotropic   EII    1                              one width for all
spherical   VII    K                              a width for each memory
diagonal    VVI    K D                            a width for each memory and feature
tied        EEE    D (D + 1) / 2                  one tilted ellipse for all
full        VVV    K D (D + 1) / 2                a tilted ellipse for each
=========== ====== ============================== ==============================================
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

import probam.fits.fit as api
from probam.comparison.compare import differences, json_value
from probam.comparison.scores import evidence
from probam.comparison.splits import read_once
from probam.data.table import Table
from probam.errors import InputError, NumericalError, Stop, shown
from probam.fits.fitted import Fit
from probam.inference.common.coordinates import free_parameters
from probam.inference.common.progress import Listener, Reporter
from probam.options import one_of, whole_number
from probam.reports.summaries.criteria import expected_loo, information

__all__ = [
    "CRITERIA",
    "MCLUST",
    "MOST_MEMORIES",
    "SHAPES",
    "Choice",
    "Selection",
    "compare_covariances",
    "selection_record",
    "selection_text",
]

SHAPES = ("isotropic", "spherical", "diagonal", "tied", "full")
"""Shapes of a covariance whose likelihood EM maximises in closed form."""

MCLUST = dict(zip(SHAPES, ("EII", "VII", "VVI", "EEE", "VVV"), strict=True))
"""What mclust calls them."""

CRITERIA = {"bic": "bic", "icl": "icl", "loo": "elpd_loo", "evidence": "log_evidence"}
"""Criteria, and their columns in the table."""

_OF_SAMPLES = ("loo", "evidence")
_SMALLER = ("bic", "icl")
MOST_MEMORIES = 9
"""The largest number of memories that is tried by default, as in mclust."""

_OPTIONS = ("standardise", "columns", "drop", "variable", "missing", "sample_weight", "restarts")
"""Options of ``probam.fit`` that leave the model to the criteria."""

_NARROW = (
    "a memory is as narrow as maximum likelihood is let: it sits on a few rows that are equal or in line, and the "
    "likelihood has no maximum there"
)


class Choice(NamedTuple):
    """A model: the shape of the covariance, and the number of memories."""

    covariance: str
    components: int


class Selection(NamedTuple):
    """All models by all criteria, and the best by each."""

    table: pd.DataFrame
    """A row for each model, by ``covariance`` and ``components``: ``log_lik`` (nats), ``num_free`` parameters, ``bic``,
    ``icl``, and where they were asked for ``elpd_loo`` with ``elpd_se``, ``elpd_mcse``, ``elpd_diff`` and
    ``elpd_diff_se`` (to the best, paired by row), ``bad_k``, ``log_evidence`` with ``evidence_se``; ``seconds``;
    ``note`` says why numbers are missing."""
    best: Mapping[str, Choice]
    """The best model by each criterion; a criterion that no model has is not there."""
    fits: Mapping[str, Fit]
    """The fits of the best models, by criterion: maximum likelihood, or draws for ``loo`` and ``evidence``."""
    num_data: int
    """Number of rows."""
    source: str
    """What the rows were called."""

    @property
    def chosen(self) -> Fit:
        """The fit of the best model by the first criterion."""
        return next(iter(self.fits.values()))


def compare_covariances(
    data: Any,
    covariances: Sequence[str] = SHAPES,
    components: Iterable[int] = range(1, MOST_MEMORIES + 1),
    *,
    criteria: Sequence[str] = ("bic", "icl"),
    shortlist: int | None = 6,
    seed: int = 0,
    progress: Listener | None = None,
    **options: Any,
) -> Selection:
    """Choose the shape of the covariance and the number of Gaussian memories.

    Args:
        data: anything that ``probam.fit`` reads.
        covariances: the shapes to try.
        components: the numbers of memories to try.
        criteria: which criteria to compute, of "bic", "icl", "loo" and "evidence"; the first one decides on
            ``chosen``. "loo" and "evidence" sample the posterior under the default prior by the default engine; the
            evidence follows by bridge sampling, of at most six memories.
        shortlist: how many models, those of best BIC, are sampled for "loo" and "evidence"; None samples all.
        seed: of every fit.
        progress: told of the models that are done. Where it raises ``probam.Stop``, these are compared.
        options: other arguments of ``probam.fit``: ``standardise``, ``columns``, ``drop``, ``variable``, ``missing``,
            ``sample_weight``, ``restarts`` (of EM).

    Raises:
        InputError: for unknown shapes, criteria or options, and where no model can be fitted.

    >>> rng = np.random.default_rng(0)
    >>> rows = np.concatenate([rng.normal(-3, 1, (40, 2)), rng.normal(3, 1, (60, 2))])
    >>> compare_covariances(rows, ["isotropic", "full"], [1, 2]).best["bic"]
    Choice(covariance='isotropic', components=2)
    """
    if not isinstance(components, Iterable):
        raise InputError(
            f"components: expected numbers of memories; got {shown(components)}; write [{shown(components)}]"
        )
    counts = list(dict.fromkeys(components))
    _check(covariances, counts, criteria, shortlist, options)
    table, options = read_once(data, options)
    report = Reporter(progress)
    sampled = [name for name in criteria if name in _OF_SAMPLES]
    models = [Choice(shape, count) for shape in dict.fromkeys(covariances) for count in counts]
    num_sampled = min(shortlist or len(models), len(models)) if sampled else 0
    grid = _Grid(table, options, seed, report, len(models) + num_sampled)
    for model in models:
        if report.stopped:
            break
        grid.maximise(model)
    if not grid.rows:
        raise Stop("compare: stopped before a model was fitted; there is nothing to choose from yet")
    if sampled:
        grid.sample(shortlist, with_evidence="evidence" in sampled)
    frame = grid.frame()
    best = {name: choice for name in criteria if (choice := _best(frame, name)) is not None}
    if not best:
        raise InputError("components: no model could be fitted: " + "; ".join(sorted(set(frame["note"]))))
    fits = {name: grid.draws[model] if name in _OF_SAMPLES else grid.maxima[model] for name, model in best.items()}
    return Selection(frame, best, fits, table.num_data, table.source)


def _check(
    covariances: Sequence[str],
    components: Sequence[int],
    criteria: Sequence[str],
    shortlist: int | None,
    options: Mapping[str, Any],
) -> None:
    """Raise InputError for what is no shape, number of memories, criterion or option."""
    for what, names, known in (("covariances", covariances, SHAPES), ("criteria", criteria, tuple(CRITERIA))):
        if isinstance(names, str):
            raise InputError(f"{what}: expected a list of names; got {names!r}; write [{names!r}]")
        if not names:
            raise InputError(f"{what}: expected at least one of {', '.join(known)}; got none")
        for name in names:
            one_of(*known)(what, name)
    if not components:
        raise InputError("components: expected at least one number of memories; got none")
    for count in components:
        whole_number(least=1, what="number of memories")("components", count)
    if shortlist is not None:
        whole_number(least=1, what="number of models")("shortlist", shortlist)
    for name in options:
        if name not in _OPTIONS:
            raise InputError(f"{name}: compare_covariances has no such option; it has {', '.join(_OPTIONS)}")


class _Grid:
    """The models that were fitted, and their numbers."""

    def __init__(self, table: Table, options: Mapping[str, Any], seed: int, report: Reporter, num_fits: int) -> None:
        self.table = table
        self.options = dict(options)
        self.seed = seed
        self.report = report
        self.num_fits = num_fits
        self.maxima: dict[Choice, Fit] = {}
        self.draws: dict[Choice, Fit] = {}
        self.rows: dict[Choice, dict[str, Any]] = {}
        self.pointwise: dict[Choice, np.ndarray] = {}

    def maximise(self, model: Choice) -> None:
        """Maximum likelihood of a model, BIC and ICL; a note where it has none."""
        self._say(f"{model.covariance}, {model.components}")
        row = self.rows[model] = {"note": ""}
        try:
            fit = api.fit_essentials(self.table, **self._of(model), engine="em", estimate="ml", **self.options)
        except (InputError, NumericalError) as error:
            row["note"] = str(error)
            return
        found = information(fit.made, free_parameters(fit.model), confidence=self._confidence(fit))
        row |= {"log_lik": found.log_lik, "num_free": found.num_free, "seconds": float(fit.made.attrs["seconds"])}
        if fit.made.attrs["outcome"] == "degenerate":
            row["note"] = _NARROW
            return
        row |= {"bic": found.bic, "icl": found.icl}
        self.maxima[model] = fit

    def sample(self, shortlist: int | None, *, with_evidence: bool) -> None:
        """Leave-one-out and evidence of the models of best BIC, from draws of their posteriors."""
        for model in sorted(self.maxima, key=lambda model: self.rows[model]["bic"])[:shortlist]:
            if self.report.stopped:
                break
            self._say(f"{model.covariance}, {model.components}: sampling")
            row, own = self.rows[model], {name: value for name, value in self.options.items() if name != "restarts"}
            try:
                fit = api.fit(self.table, **self._of(model), **own)
                loo = expected_loo(fit.tree)
                self.draws[model], self.pointwise[model] = fit, loo.pointwise
                row |= {"elpd_loo": loo.elpd, "elpd_se": loo.se, "elpd_mcse": loo.mcse, "bad_k": loo.num_bad}
                row["seconds"] += float(fit.tree.attrs["seconds"])
                if with_evidence:
                    found = evidence(fit, seed=self.seed)
                    row |= {"log_evidence": found.log_evidence, "evidence_se": found.se}
            except (InputError, NumericalError) as error:
                row["note"] = str(error)

    def frame(self) -> pd.DataFrame:
        """The table of a :class:`Selection`."""
        index = pd.MultiIndex.from_tuples(list(self.rows), names=Choice._fields)
        frame = pd.DataFrame(list(self.rows.values()), index=index).reindex(columns=list(_COLUMNS))
        frame[["elpd_diff", "elpd_diff_se"]] = differences(frame.index, self.pointwise, per_datum=False)
        return frame

    def _of(self, model: Choice) -> dict[str, Any]:
        """The options of a fit of a model."""
        return {**model._asdict(), "weights": "dirichlet", "seed": self.seed}

    def _confidence(self, fit: Fit) -> np.ndarray:
        """The largest responsibility of each row."""
        answer = fit.predict(self.table, probabilities=False)
        return np.asarray(answer["confidence"].values, np.float64)

    def _say(self, what: str) -> None:
        self.report(len(self.rows) + len(self.draws), self.num_fits, f"compare: {what}")


_COLUMNS = (
    *("log_lik", "num_free", "bic", "icl", "elpd_loo", "elpd_se", "elpd_mcse", "elpd_diff", "elpd_diff_se", "bad_k"),
    *("log_evidence", "evidence_se", "seconds", "note"),
)


def _best(frame: pd.DataFrame, criterion: str) -> Choice | None:
    """The best model by a criterion; None where no model has it."""
    values = frame[CRITERIA[criterion]].dropna().astype(float)
    if not len(values):
        return None
    place = values.idxmin() if criterion in _SMALLER else values.idxmax()
    assert isinstance(place, tuple)
    return Choice(str(place[0]), int(place[1]))


# --- in words ------------------------------------------------------------------------------------------------


_TITLES = {
    "bic": "BIC (smaller is better; mclust prints its negative)",
    "icl": "ICL (smaller is better; mclust prints its negative)",
    "loo": "leave-one-out log density, nats (larger is better), with its standard error over rows",
    "evidence": "log evidence, nats (larger is better), with its Monte Carlo standard error",
}
_ERRORS = {"loo": "elpd_se", "evidence": "evidence_se"}


def selection_text(selection: Selection) -> str:
    """A table for each criterion, shapes by numbers of memories, with a star at the best; notes; the next step.

    Args:
        selection: what :func:`compare_covariances` returns.
    """
    parts = [f"{_TITLES[name]}:\n{_criterion_text(selection, name)}" for name in selection.best]
    notes: dict[str, list[str]] = {}
    for row in _records(selection.table):
        if row["note"]:
            notes.setdefault(row["note"], []).append(f"{row['covariance']} {row['components']}")
    if notes:
        parts.append("\n".join(f"{', '.join(models)}: {note}" for note, models in notes.items()))
    words = {name: f"{choice.covariance}, {choice.components}" for name, choice in selection.best.items()}
    best = "; ".join(f"{name.upper()} chooses {said}" for name, said in words.items())
    first = next(iter(selection.best.values()))
    flags = f"--covariance {first.covariance} --weights dirichlet --components {first.components}"
    return "\n\n".join([*parts, f"{best}\nuse it: probam fit {selection.source} {flags}"])


def _criterion_text(selection: Selection, name: str) -> str:
    """Shapes by numbers of memories, with errors where there are any; models without a number are left empty."""
    cells: dict[int, dict[str, str]] = {}
    for row in _records(selection.table):
        shape, count = row["covariance"], row["components"]
        text = ""
        if pd.notna(row[CRITERIA[name]]):
            star = "*" if (shape, count) == selection.best[name] else ""
            error = f" ± {row[_ERRORS[name]]:.1f}" if name in _ERRORS else ""
            text = f"{star}{row[CRITERIA[name]]:.1f}{error}"
        cells.setdefault(count, {})[f"{shape} ({MCLUST[shape]})"] = text
    frame = pd.DataFrame(cells).replace("", np.nan).dropna(axis=0, how="all").dropna(axis=1, how="all").fillna("")
    frame.columns.name = "memories"
    return frame.to_string()


def selection_record(selection: Selection) -> dict[str, Any]:
    """The selection as JSON, also that of ``probam compare --covariances --json``.

    Args:
        selection: what :func:`compare_covariances` returns.

    Returns:
        ``best`` maps each criterion to ``covariance`` and ``components``; ``models`` lists all models with their
        numbers, null where one is missing.
    """
    return {
        "num_data": selection.num_data,
        "best": {name: choice._asdict() for name, choice in selection.best.items()},
        "models": [{name: json_value(value) for name, value in row.items()} for row in _records(selection.table)],
    }


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of the table, each with its covariance and number of memories."""
    return [{str(name): value for name, value in row.items()} for row in table.reset_index().to_dict(orient="records")]
