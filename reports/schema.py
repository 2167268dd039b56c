"""What the file of a fit holds: the attributes and arrays of each group, and which values they can take.

``docs/architecture.md`` ("A fit on disk") says the same in words; :mod:`probam.reports.checked` holds a file to it.
What the group ``posterior`` has beside ``weights`` depends on the model.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

__all__ = [
    "ALWAYS",
    "ARRAYS",
    "ATTRIBUTES",
    "GROUPS",
    "OF_EVERY_DRAW",
    "OF_THE_RUN",
    "REQUIRED",
    "TOGETHER",
    "Attribute",
    "Values",
]

GROUPS = (
    "posterior",
    "sample_stats",
    "optimisation",
    "invariant",
    "log_likelihood",
    "log_prior",
    "posterior_predictive",
    "predictive_check",
    "prior",
    "prior_predictive",
    "observed_data",
    "constant_data",
    "memory",
    "partition",
    "recall",
    "verification",
    "evidence",
    "all_rows",
)
"""The groups of a fit, in the order of the file."""

REQUIRED = ("posterior", "observed_data", "constant_data")
"""Groups without which a file is no fit."""

OF_THE_RUN = (*REQUIRED, "sample_stats")
"""Groups of a fit that was cut off after its engine had ended."""

ALWAYS = (*OF_THE_RUN, "invariant", "memory")
"""Groups of a whole fit; the others say why they are left out, or are made when they are asked for."""


# --- kinds of values --------------------------------------------------------------------------------------------


class Values(NamedTuple):
    """What values an array can have: in words, and whether it has them, given the sizes of the fit's dimensions."""

    words: str
    hold: Callable[[np.ndarray, Mapping[str, int]], bool]


def _numbers(words: str, hold: Callable[[np.ndarray], Any]) -> Values:
    """Numbers for all of which a condition holds."""
    return Values(words, lambda values, _: values.dtype.kind in "fiub" and bool(np.all(hold(values))))


def _whole(least: int, below: str = "", *, gaps: bool = False) -> Values:
    """Whole numbers from ``least``, below the size of a dimension if one is named; with gaps (NaN) stored as floats."""

    def hold(values: np.ndarray, sizes: Mapping[str, int]) -> bool:
        if values.dtype.kind not in ("f" if gaps else "iu"):
            return False
        known = values[~np.isnan(values)] if gaps else values
        limit = sizes[below] if below else np.inf
        return bool(np.all((known >= least) & (known < limit) & (known == np.floor(known))))

    return Values(f"whole numbers from {least}" + (f" and below the number of each {below}" if below else ""), hold)


_ANY = Values("numbers", lambda values, _: values.dtype.kind in "fiub")
_FINITE = _numbers("finite numbers", np.isfinite)
_NO_NAN = _numbers("numbers, none of them NaN", lambda values: ~np.isnan(values))
_NOT_NEGATIVE = _numbers("finite numbers of at least 0", lambda values: np.isfinite(values) & (values >= 0))
_POSITIVE = _numbers("finite numbers above 0", lambda values: np.isfinite(values) & (values > 0))
_SHARE = _numbers("numbers from 0 to 1", lambda values: (values >= -1e-3) & (values <= 1 + 1e-3))
_TRUTH = Values("true or false", lambda values, _: values.dtype.kind == "b")
_TEXT = Values("text", lambda values, _: values.dtype.kind in "UT" or all(isinstance(v, str) for v in values.flat))


class Array(NamedTuple):
    """One array of a group."""

    dims: str
    values: Values
    words: str = ""
    is_needed: bool = True


def _at_times(dims: str, values: Values, words: str = "") -> Array:
    """An array that only some fits have."""
    return Array(dims, values, words, is_needed=False)


ARRAYS: dict[str, Array] = {
    "observed_data/x": Array("datum feature", _ANY, "data, in the units they came in"),
    "observed_data/completed": _at_times(
        "datum feature", _ANY, "the same with each missing entry at its conditional mean"
    ),
    "observed_data/weight": _at_times("datum", _NOT_NEGATIVE, "how often each datum counts"),
    "observed_data/allowed": _at_times(
        "datum memory", _SHARE, "whether a datum may belong to a memory (1) or is known not to (0)"
    ),
    "constant_data/center": Array("feature", _FINITE, "subtracted from the data: x_model = (x - center) / scale"),
    "constant_data/scale": Array("feature", _POSITIVE, "divides the centred data: x_model = (x - center) / scale"),
    "posterior/weights": Array("chain draw memory", _SHARE, "mixing weights"),
    "sample_stats/lp": Array("chain draw", _NO_NAN, "log joint density in nats, larger is better"),
    "sample_stats/diverging": _at_times("chain draw", _TRUTH, "whether the trajectory diverged"),
    "optimisation/objective": Array("restart iteration", _ANY),
    "optimisation/round": _at_times("restart", _whole(0)),
    "optimisation/log_mass": _at_times("restart", _ANY),
    "invariant/log_lik": Array("chain draw", _NO_NAN, "log likelihood of all data, nats"),
    "invariant/num_occupied": Array("chain draw", _whole(0), "number of memories that hold at least one datum"),
    "invariant/weight_entropy": Array("chain draw", _FINITE, "entropy of the mixing weights, nats"),
    "invariant/largest_weight": Array("chain draw", _SHARE, "largest mixing weight"),
    "invariant/probe_energy": Array("chain draw probe", _NO_NAN, "energy at fixed probe points"),
    "invariant/together": Array("chain draw pair", _SHARE, "probability that a fixed pair of data shares a memory"),
    "log_likelihood/x": Array("chain draw datum", _NO_NAN, "log density of each datum, nats"),
    "prior_predictive/x": Array("chain draw datum feature", _NO_NAN, "data drawn from the prior, data units"),
    "posterior_predictive/x": Array("chain draw datum feature", _NO_NAN, "replicated data, data units"),
    "predictive_check/deviation": Array(
        "discrepancy", _ANY, "how far the data are from replicated data, in standard deviations of the latter"
    ),
    "predictive_check/aspect": Array("discrepancy", _TEXT, "what the discrepancy is part of"),
    "memory/mean": Array("memory feature", _FINITE, "posterior mean of the relabelled memories, data units"),
    "memory/mean_sd": Array("memory feature", _NOT_NEGATIVE, "posterior standard deviation of the memory"),
    "memory/mean_q05": Array("memory feature", _FINITE, "5 % posterior quantile of the memory"),
    "memory/mean_q95": Array("memory feature", _FINITE, "95 % posterior quantile of the memory"),
    "memory/sd": Array("memory feature", _ANY, "spread of the data that belong to the memory"),
    "memory/weight": Array("memory", _SHARE, "posterior mean of the mixing weight"),
    "memory/weight_sd": Array("memory", _SHARE, "posterior standard deviation of the mixing weight"),
    "memory/occupied": Array("memory", _SHARE, "probability that the memory holds at least one datum"),
    "memory/size": Array(
        "memory",
        _NOT_NEGATIVE,
        "expected number of data of the memory (of a point estimate: whose most probable memory it is)",
    ),
    "memory/permutation": Array("sample memory", _whole(0, "memory")),
    "partition/coclustering": Array("row row_bis", _SHARE, "probability that two data share a memory"),
    "partition/point": Array("row", _whole(0), "partition of least expected variation of information"),
    "partition/point_binder": Array("row", _whole(0), "partition of least expected Binder loss"),
    "partition/ball_upper": _at_times(
        "row", _whole(0), "coarsest partitions at the edge of the credible ball: one of them"
    ),
    "partition/ball_lower": _at_times(
        "row", _whole(0), "finest partitions at the edge of the credible ball: one of them"
    ),
    "partition/ball_horizontal": _at_times(
        "row", _whole(0), "partition of the credible ball that is farthest from the point partition"
    ),
    "partition/label": Array("datum", _whole(0, "memory"), "memory of each datum in the point partition"),
    "partition/confidence": Array("datum", _SHARE, "probability of that label"),
    "recall/query": Array("query feature", _ANY),
    "recall/query_row": _at_times("query", _whole(0, "datum"), "row of the data that the query is"),
    "recall/trajectory": Array("query step feature", _ANY),
    "recall/energy": Array("query step", _ANY, "energy along the trajectory"),
    "recall/converged": Array("query", _TRUTH),
    "recall/basin": Array(
        "query",
        _whole(-1, "memory"),
        "memory whose basin of recall the query lies in, -1 where recall did not converge",
    ),
    "recall/responsible": Array("query", _whole(-1, "memory"), "memory of largest responsibility"),
    "recall/nearest": Array("query", _whole(-1, "memory"), "memory nearest to the query"),
    "recall/attractor": Array("attractor feature", _ANY),
    "recall/datum_basin": Array("looked_at", _whole(-1, "memory")),
    "recall/datum_responsible": Array("looked_at", _whole(-1, "memory")),
    "recall/datum_row": Array("looked_at", _whole(0, "datum")),
    "recall/axis": Array("axis feature", _FINITE),
    "recall/plane_origin": Array("feature", _FINITE),
    "recall/grid_x": Array("grid_x", _FINITE),
    "recall/grid_y": Array("grid_y", _FINITE),
    "recall/grid_energy": Array("grid_y grid_x", _ANY),
    "recall/grid_basin": Array("grid_y grid_x", _whole(-1, "memory", gaps=True)),
    "recall/grid_responsible": Array("grid_y grid_x", _whole(-1, "memory", gaps=True)),
    "recall/num_attractors": Array("chain draw", _whole(0)),
    "recall/num_spurious": Array("chain draw", _whole(0)),
    "recall/same_basin": Array("row row_bis", _SHARE),
    "recall/recalled": Array("chain draw query feature", _ANY),
    "recall/recalled_memory": Array("chain draw query", _whole(-1, "memory")),
    "recall/recalled_mean": Array("query feature", _ANY),
    "recall/recalled_sd": Array("query feature", _ANY),
    "recall/recall_probability": Array("query memory", _SHARE),
    "recall/barrier": Array("memory memory_bis", _ANY),
    "recall/barrier_q05": Array("memory memory_bis", _ANY),
    "recall/barrier_q95": Array("memory memory_bis", _ANY),
    "recall/merged": Array("memory memory_bis", _ANY),
    "recall/completion_hidden": _at_times("query feature", _TRUTH),
    "recall/completion_descent": _at_times("query feature", _ANY),
    "recall/completion_descent_sd": _at_times("query feature", _ANY),
    "recall/completion_conditional_mean": _at_times("query feature", _ANY),
    "recall/completion_conditional_sd": _at_times("query feature", _ANY),
    "verification/relation": Array("check", _TEXT),
    "verification/witnesses": Array("check", _TEXT),
    "verification/error": Array("check", _ANY),
    "verification/tolerance": Array("check", _ANY),
    "verification/passed": Array("check", _TRUTH),
    "evidence/log_evidence": Array("run", _NO_NAN),
    "all_rows/log_lik": Array("chain draw", _NO_NAN, "log likelihood of all rows, nats"),
    "all_rows/size": Array(
        "chain draw memory",
        _NOT_NEGATIVE,
        "expected number of data of each memory of a draw (of a point estimate: whose most probable memory it is)",
    ),
    "all_rows/log_confidence": Array("chain draw", _NO_NAN, "sum of the logs of the rows' largest responsibilities"),
}
"""Arrays by group and name. Other arrays of a group are free, but see ``OF_EVERY_DRAW``."""

TOGETHER = (
    (
        "recall",
        (
            "completion_hidden",
            "completion_descent",
            "completion_descent_sd",
            "completion_conditional_mean",
            "completion_conditional_sd",
        ),
    ),
    ("recall", ("mse_descent", "mse_conditional_mean", "mse_column_mean")),
    ("partition", ("ball_upper", "ball_lower", "ball_horizontal")),
)
"""Arrays or attributes of a group of which a fit has all or none."""

OF_EVERY_DRAW = {"posterior": _FINITE, "sample_stats": _NO_NAN, "prior": _FINITE, "log_prior": _NO_NAN}
"""Groups all of whose arrays lead with chain and draw, and the values of those that ``ARRAYS`` does not have."""


# --- attributes ---------------------------------------------------------------------------------------------------


class Attribute(NamedTuple):
    """One attribute of a group."""

    words: str
    holds: Callable[[Any], bool]
    is_needed: bool = True

    def at_times(self) -> "Attribute":
        """The same, where only some files have it."""
        return self._replace(is_needed=False)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _read(value: Any) -> Any:
    """What a JSON text says; None where it cannot be read."""
    try:
        return json.loads(value)
    except (ValueError, TypeError):
        return None


def _json(words: str, holds: Callable[[Any], bool]) -> Attribute:
    """A JSON text of something for which a condition holds."""
    return Attribute(f"JSON of {words}", lambda value: isinstance(value, str) and holds(_read(value)))


def _mapping(words: str, holds: Callable[[Any], bool]) -> Attribute:
    """JSON of names with values for all of which a condition holds."""
    return _json(
        f"names with {words}", lambda read: isinstance(read, dict) and all(holds(value) for value in read.values())
    )


def _list(words: str, holds: Callable[[Any], bool]) -> Attribute:
    return _json(f"a list of {words}", lambda read: isinstance(read, list) and all(holds(value) for value in read))


def _within(least: int, most: int) -> Attribute:
    return Attribute(
        f"a whole number from {least} to {most}", lambda value: _is_whole(value) and least <= value <= most
    )


def _is_weight_option(value: Any) -> bool:
    """A number, the words of a prior, or weights."""
    return _is_text(value) or _is_number(value) or (isinstance(value, list) and all(map(_is_number, value)))


def _is_command(read: Any) -> bool:
    """Words in groups, and the names of what only Python can give."""
    return (
        isinstance(read, dict)
        and all(isinstance(group, list) and all(map(_is_text, group)) for group in read.get("groups", [None]))
        and all(map(_is_text, read.get("in_python", [])))
    )


_OUTCOMES = ("converged", "max_steps", "non_finite", "degenerate", "stopped")

_WORDS = Attribute("text", _is_text)
_WORD = Attribute("text that is not empty", lambda value: isinstance(value, str) and bool(value))
_NUMBER = Attribute("a finite number", lambda value: _is_number(value) and bool(np.isfinite(value)))
_ANY_NUMBER = Attribute("a number", _is_number)
_COUNT = _within(0, 2**62)
_FLAG = _within(0, 1)
_TEXTS = _mapping("text", _is_text)
_NUMBERS = _mapping("numbers", _is_number)

ATTRIBUTES: dict[str, dict[str, Attribute]] = {
    "/": {
        "schema": _COUNT,
        "probam_version": _WORD,
        "family": _WORD,
        "family_options": _TEXTS,
        "weights": _WORD,
        "weights_options": _mapping("numbers or text", _is_weight_option),
        "num_components": _within(1, 2**31),
        "engine": _WORD,
        "engine_options": _json("names with values", lambda read: isinstance(read, dict)),
        "status": _WORDS,
        "outcome": Attribute("one of the outcomes of a run", lambda value: value in _OUTCOMES).at_times(),
        "remedy": _WORDS.at_times(),
        "estimate": _WORDS,
        "command": _json("the words of a command", _is_command),
        "sampler": _WORDS,
        "seed": _within(0, 2**32 - 1),
        "seconds": Attribute("a number of at least 0", lambda value: _NUMBER.holds(value) and value >= 0),
        "dtype": Attribute("float32 or float64", lambda value: value in ("float32", "float64")),
        "source": _WORDS,
        "standardised": _FLAG,
        "normalised": _FLAG,
        "given_prior": _mapping("text or null", lambda value: value is None or _is_text(value)).at_times(),
        "prior": _TEXTS.at_times(),
        "model": _WORDS,
        "truncation": Attribute("JSON of numbers, or empty", lambda value: value == "" or _NUMBERS.holds(value)),
        "versions": _TEXTS,
        "left_out": _TEXTS.at_times(),
        "pending": _list("groups", _is_text).at_times(),
        "num_streamed": _COUNT.at_times(),
    },
    "optimisation": {
        "status": _WORDS,
        "what": _WORDS,
        "restart_kind": _list("text", _is_text).at_times(),
        "restart_status": _list("text", _is_text).at_times(),
        "pareto_k": _ANY_NUMBER.at_times(),
    },
    "predictive_check": {
        "p_value": Attribute("a number from 0 to 1", lambda value: _is_number(value) and 0 <= value <= 1),
        "looked_at": _list("text", _is_text),
        "num_draws": _COUNT,
        "num_replicates": _COUNT,
        "num_rows": _COUNT,
        "num_features": _COUNT,
    },
    "memory": {"reference": _COUNT, "relabelling": _WORDS, "agreement": _NUMBERS},
    "partition": {
        name: _NUMBER.at_times()
        for name in (
            "credible_radius",
            "credible_radius_binder",
            "credible_probability",
            "expected_loss",
            "expected_loss_binder",
        )
    },
    "recall": {
        "disagreement": _NUMBER,
        "spherical": _FLAG,
        "plane": _WORDS,
        "twin": _WORDS,
        "units": _WORDS,
        "num_draws": _COUNT,
        "unsettled": _NUMBER,
        "barrier_memories": _COUNT,
        "mse_descent": _ANY_NUMBER.at_times(),
        "mse_conditional_mean": _ANY_NUMBER.at_times(),
        "mse_column_mean": _ANY_NUMBER.at_times(),
        "no_completion": _WORDS.at_times(),
    },
    "evidence": {"log_evidence": _ANY_NUMBER, "se": _ANY_NUMBER, "method": _WORDS},
    "all_rows": {"num_data": _COUNT, "total_weight": _ANY_NUMBER.at_times()},
    "stream": {
        "options": _json("names with values", lambda read: isinstance(read, dict)),
        "columns": _list("text", _is_text),
        "dtype": Attribute("float32, float64 or empty", lambda value: value in ("float32", "float64", "")),
        "seconds": _NUMBER,
        "num_data": _COUNT,
        "state": _WORDS,
    },
}
"""Attributes by group and name, those of the root under ``/``. Other attributes are free."""
