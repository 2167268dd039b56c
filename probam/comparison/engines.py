"""One model by several engines on the same rows, a stream among them, compared on the same held-out rows."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from numpyro.distributions import Distribution, Gamma

import probam.fits.fit as api
from probam.comparison.compare import compare
from probam.comparison.splits import of_rows, read_once, rows_of_table, split
from probam.errors import InputError, NumericalError, Stop
from probam.fits.fitted import Fit
from probam.fits.options import ENGINES, FitOptions
from probam.inference.common.progress import Listener, Reporter
from probam.options import one_of
from probam.streams.stream import Stream

__all__ = ["LEARNERS", "compare_engines", "engine_names", "stream_options"]

LEARNERS = (*ENGINES, "stream")
"""The engines of a fit, and the stream, which learns row by row."""

_OF_PROCESSES = ("dp", "pyp")
_SHARED = ("family", "covariance", "prior", "standardise", "normalise")
"""Options of a fit that a stream has too."""

_OF_A_STREAM = (
    "it read the rows once, in their order, and made memories as they were needed, without a limit; in another order "
    "it may find another partition"
)


def compare_engines(
    data: Any,
    engines: Sequence[str] | str = ("em", "svi", "nuts", "gibbs"),
    *,
    held_out: float = 0.2,
    labels: ArrayLike | None = None,
    seed: int = 0,
    engine_options: Mapping[str, Mapping[str, Any]] | None = None,
    bridged: bool = False,
    attractors: bool = False,
    progress: Listener | None = None,
    **model_options: Any,
) -> tuple[pd.DataFrame, dict[str, Fit]]:
    """The same model by several engines on the same data, compared on the same held-out rows.

    Args:
        data: anything that ``probam.fit`` reads.
        engines: names of engines; ``"stream"`` is a :class:`probam.Stream`, which reads the same rows one after the
            other; ``"all"`` stands for every engine and the stream.
        held_out: share of the rows that no engine sees.
        labels: the true label of each row of ``data``.
        seed: of the split, of the fits and of bridge sampling.
        engine_options: options of single engines, by the name of the engine; those of ``"stream"`` are the options of
            :class:`probam.Stream`.
        bridged, attractors: as in :func:`probam.compare`.
        progress: told of the engines that are done. Where it raises ``probam.Stop``, these are compared.
        model_options: other arguments of ``probam.fit`` (``family``, ``weights``, ``components``, ``drop``,
            ``normalise``, ...). Weights of the data go with their rows; a datum that is held out counts once.

    Returns:
        The table of :func:`probam.compare`, and the fits by engine. An engine that cannot fit this model has a row
        whose ``estimate`` says why, and no numbers.
    """
    names = engine_names(engines)
    table, model_options = read_once(data, model_options)
    rows, others = split(table.num_data, held_out, seed)
    truth = None if labels is None else np.asarray(labels).ravel()
    if truth is not None and len(truth) != table.num_data:
        raise InputError(f"labels: expected one for each of {table.num_data} rows; got {len(truth)}")
    fitted, unseen = rows_of_table(table, rows), rows_of_table(table, others)
    model_options = of_rows(model_options, rows, table.num_data)
    fits: dict[str, Fit] = {}
    refused: dict[str, str] = {}
    report = Reporter(progress)
    for done, engine in enumerate(names):
        report(done, len(names), f"compare: {engine}")
        if report.stopped:
            break
        try:
            fits[engine] = _learned(fitted, engine, seed, model_options, (engine_options or {}).get(engine, {}))
        except (InputError, NumericalError) as error:
            refused[engine] = str(error)
    report(len(names), len(names), "compare")
    if not fits and report.stopped:
        raise Stop("compare: stopped before an engine was done; there is nothing to compare yet")
    if not fits:
        raise InputError("engines: none of them fits this model: " + "; ".join(refused.values()))
    classes = None if truth is None else truth[others]
    frame = compare(fits, unseen, classes, bridged=bridged, attractors=attractors, seed=seed)
    return _with_refused(frame, refused, with_stream="stream" in fits), fits


def engine_names(engines: Sequence[str] | str) -> list[str]:
    """The engines by name, each once; ``"all"`` stands for all of :data:`LEARNERS`.

    Raises :class:`probam.errors.InputError` for a name that none has.
    """
    if isinstance(engines, str):
        if engines != "all":
            raise InputError(f"engines: expected a list of names, or 'all'; got {engines!r}; write [{engines!r}]")
        return list(LEARNERS)
    for name in engines:
        one_of(*LEARNERS)("engines", name)
    return list(dict.fromkeys(engines))


def _learned(
    rows: pd.DataFrame, engine: str, seed: int, model_options: Mapping[str, Any], own: Mapping[str, Any]
) -> Fit:
    """The fit of one engine, or of the stream."""
    if engine != "stream":
        return api.fit(rows, engine=engine, seed=seed, **model_options, **own)
    shared = stream_options(model_options)
    stream = Stream(seed=seed, **{"reservoir": max(2, len(rows)), **shared, **own})
    return stream.partial_fit(rows).to_fit()


def stream_options(model_options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a stream that learns the model of a fit with these options.

    The prior of alpha and of the discount is that of a fit: where a fit learns them, so does the stream.

    Args:
        model_options: arguments of ``probam.fit``; ``components``, a limit for other engines, is left out.

    Raises:
        InputError: where a stream cannot learn this model.

    >>> stream_options({"weights": "dp", "components": 20})
    {'learn_alpha': True}
    >>> stream_options({"weights": "dirichlet", "components": 3})
    Traceback (most recent call last):
        ...
    probam.errors.InputError: weights: a stream makes memories as data require, under weights dp or pyp; got 'dirichlet'
    """
    known = {each.name for each in fields(FitOptions)}
    options = FitOptions(**{name: value for name, value in model_options.items() if name in known})
    if options.weights not in _OF_PROCESSES:
        raise InputError(
            f"weights: a stream makes memories as data require, under weights dp or pyp; got {options.weights!r}"
        )
    changed = options.changed()
    others = (changed.keys() | model_options.keys() - known) - {*_SHARED, "weights", "components", "alpha", "discount"}
    if others:
        raise InputError(f"{sorted(others)[0]}: a stream has no such option")
    shared = {name: changed[name] for name in _SHARED if name in changed}
    return shared | _process(options)


def _process(options: FitOptions) -> dict[str, Any]:
    """The process of the weights as options of a stream."""
    alpha, discount = options.alpha, options.discount
    if isinstance(discount, Distribution):
        raise InputError("discount: give a stream a number, or leave it out: it is then learned")
    if isinstance(alpha, Distribution):
        if not isinstance(alpha, Gamma) or options.weights == "pyp":
            raise InputError("alpha: a stream learns it under a Gamma prior, of weights dp; give a number, or a Gamma")
        return {"learn_alpha": (float(alpha.concentration), float(alpha.rate))}
    if options.weights == "dp":
        return {"learn_alpha": True} if alpha is None else {"alpha": alpha}
    if alpha is None and discount is None:
        return {"learn_discount": True}
    if alpha is None or discount is None:
        raise InputError("discount: a stream learns alpha and the discount both, or neither; give two numbers or none")
    return {"alpha": alpha, "discount": discount}


def _with_refused(frame: pd.DataFrame, refused: Mapping[str, str], *, with_stream: bool) -> pd.DataFrame:
    """The table with a row for each engine that does not fit the model, and the notes on the stream."""
    notes: dict[str, list[str]] = dict(frame.attrs["notes"])
    if with_stream:
        notes["stream"] = [_OF_A_STREAM, *notes.get("stream", [])]
    rows = {name: {"engine": name, "estimate": f"not fitted: {reason}"} for name, reason in refused.items()}
    whole = frame.reindex([*frame.index, *rows])
    for name, row in rows.items():
        for column, value in row.items():
            whole.loc[name, column] = value
    whole.attrs["notes"] = notes
    return whole
