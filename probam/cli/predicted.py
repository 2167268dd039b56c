"""``probam predict``: what a fit says of each row, beside what the file says of it."""

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from probam.cli.arguments import check_apart, check_output
from probam.cli.asking import Asked, IdColumn, ask, plain, titled
from probam.cli.program import (
    DATA,
    Drop,
    FitFile,
    Json,
    Labels,
    Normalise,
    OwnFamily,
    TableOutput,
    Variable,
    app,
)
from probam.cli.results import agreement_text, result_writer, tell
from probam.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr
    from numpy.typing import NDArray

    from probam.data.source import Rows

__all__ = ["predict", "predicted_table"]

_SHOWN_ABOVE = 0.01
"""Memories of which no row has a larger responsibility get no column of their own."""

Top = Annotated[
    int | None,
    typer.Option(
        "--top",
        metavar="K",
        help="Also write the K most probable memories of each row, the most probable first (memory_1, memory_2, ...), "
        "and their probabilities (probability_1, ...): for many memories, in place of --probabilities and --all.",
    ),
]


@app.command(
    epilog="Examples:\n\n  probam predict fit.nc new.csv -o labels.csv\n\n"
    "  probam predict fit.nc new.csv --probabilities --with-inputs -o labels.parquet\n\n"
    "  probam predict fit.nc test.csv --labels species -o labels.csv\n\n"
    "  cut -d, -f2- new.csv | probam predict fit.nc - -o - | head\n\n"
    "The columns are the name of the row (a column of DATA that names the rows, otherwise `row`, its number), label, "
    "confidence, log_density and confidence_sd. With r_s the responsibility of the label's memory in draw s of the "
    "posterior, confidence is its mean over the draws, and confidence_sd = sqrt(mean_s (r_s - confidence)^2) says how "
    "uncertain the confidence itself is. A point estimate (em, gradient_em, clam) has no draws and no confidence_sd."
)
def predict(
    fit_file: FitFile,
    data: Annotated[str, typer.Argument(metavar="DATA", help=DATA, show_default=False)],
    output: TableOutput,
    probabilities: Annotated[
        bool,
        typer.Option(
            "--probabilities",
            help="Also write the probability of each memory: a column for each that some row belongs to with more than "
            "--above, and `other`, the sum of the rest.",
        ),
    ] = False,
    above: Annotated[
        float | None,
        typer.Option(metavar="P", help=f"Which memories have a column ({_SHOWN_ABOVE} by default)."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Write the probability of every memory, however small.")
    ] = False,
    top: Top = None,
    with_inputs: Annotated[
        bool, typer.Option("--with-inputs", help="Also write all columns of DATA, those with text included.")
    ] = False,
    id_column: IdColumn = None,
    labels: Labels = None,
    drop: Drop = None,
    normalise: Normalise = False,
    variable: Variable = None,
    family: OwnFamily = None,
    as_json: Json = False,
) -> None:
    """Write the memory of every row, how sure that is, and the log density of the row."""
    from probam.data.writing import TABLE_SUFFIXES
    from probam.reports.summaries.estimate import bounds_memories

    least = _least_shown(above, everything=everything)
    each = probabilities or everything or above is not None
    if top is not None and each:
        raise InputError("--top: give it without --probabilities, --above and --all")
    check_output(output, TABLE_SUFFIXES, as_json=as_json)
    check_apart(output, fit_file, data)
    reading: dict[str, Any] = {"drop": drop, "variable": variable, "normalise": normalise, "missing": True}
    asked = ask(fit_file, data, labels, column=id_column, family=family, **reading)
    column = asked.names()
    if with_inputs:
        asked.settle()
    has_draws = len(asked.fitted.group("memory")["permutation"]) > 1
    options = {"probabilities": each, "spread": has_draws, "top": top}
    shown, parts = None, _predicted(asked, options)
    if each and least >= 0:
        shown, parts = _with_memories_shown(asked, options, least)
    tally = _Tally(is_bound=bounds_memories(asked.fitted.tree))
    with result_writer(output) as write:
        for rows, predicted in parts:
            write(predicted_table(predicted, rows, shown=shown, column=column, with_inputs=with_inputs))
            tally.add(predicted, rows)
    record, text = tally.told()
    tell(text, record, as_json=as_json, output=output)


def _least_shown(above: float | None, *, everything: bool) -> float:
    """The responsibility above which a memory has a column; below 0 where all have one."""
    if everything and above is not None:
        raise InputError("--all, --above: give at most one of them")
    if above is not None and not 0 <= above < 1:
        raise InputError(f"--above: expected a number of at least 0 and below 1; got {above:g}")
    return -1.0 if everything else _SHOWN_ABOVE if above is None else above


_Parts = Iterator[tuple["Rows", "xr.Dataset"]]


def _predicted(asked: Asked, options: dict[str, Any]) -> _Parts:
    return asked.answers("predicting", lambda rows: asked.fitted.predict_blocks(rows, **options))


def _with_memories_shown(asked: Asked, options: dict[str, Any], above: float) -> tuple["NDArray[np.bool_]", _Parts]:
    """The memories whose responsibility is above this for some row, and the prediction.

    All rows say which memories these are before the first is written, so more than one block is predicted twice.
    """
    import numpy as np

    parts = _predicted(asked, options)
    first = next(parts)
    more = [_has_more(first[1], above), *(_has_more(predicted, above) for _, predicted in parts)]
    shown: NDArray[np.bool_] = np.logical_or.reduce(more)
    return shown, iter([first]) if len(more) == 1 else _predicted(asked, options)


def _has_more(predicted: "xr.Dataset", above: float) -> Any:
    import numpy as np

    return np.asarray(predicted["responsibilities"].values > above).any(axis=0)


class _Tally:
    """What is said of a prediction, added up over its parts."""

    def __init__(self, *, is_bound: bool) -> None:
        """Nothing yet.

        Args:
            is_bound: whether the number of memories is an upper bound.
        """
        self._is_bound = is_bound
        self._num_data, self._num_below_half, self._log_density = 0, 0, 0.0
        self._memories: set[int] = set()
        self._counts: Counter[tuple[object, int]] = Counter()
        self._has_labels = False

    def add(self, predicted: "xr.Dataset", rows: "Rows") -> None:
        """A part, and what the file says of its rows."""
        memories = predicted["label"].values.tolist()
        self._num_data += len(memories)
        self._num_below_half += int((predicted["confidence"] < 0.5).sum())
        self._log_density += float(predicted["log_density"].sum(dtype=float))
        self._memories |= set(memories)
        if rows.labels is not None:
            self._has_labels = True
            self._counts.update(zip(rows.labels.tolist(), memories, strict=True))

    def told(self) -> tuple[dict[str, Any], str]:
        """In numbers and in words."""
        record: dict[str, Any] = {
            "num_data": self._num_data,
            "num_memories": len(self._memories),
            "is_upper_bound": self._is_bound,
            "num_below_half": self._num_below_half,
            "mean_log_density": self._log_density / self._num_data,
        }
        text = (
            "{num_data} data in {at_most}{num_memories} memories, {num_below_half} of them with a confidence below one "
            "half\nmean log density {mean_log_density:.4f} nats"
        ).format(at_most="at most " if self._is_bound else "", **record)
        if not self._has_labels:
            return record, text
        from probam.reports.summaries.contingency import agreement_of

        found = agreement_of(self._counts)
        return record | {"agreement": found._asdict()}, f"{text}\n{agreement_text(found)}"


def predicted_table(
    predicted: "xr.Dataset",
    rows: "Rows",
    *,
    shown: "NDArray[np.bool_] | None" = None,
    column: str | None = None,
    with_inputs: bool = False,
) -> "xr.Dataset":
    """Name of each row, the columns of the file if they are asked for, and the prediction.

    A column of the file that is called like one of the prediction gets ``input_`` before its name.

    Args:
        predicted: as :meth:`probam.fits.fitted.Fit.predict` returns it.
        rows: the rows of which it speaks.
        shown: which memories have a column; ``other`` is the sum of the rest. None: all have one.
        column: name of the column that names the rows; None: their numbers do.
        with_inputs: with all columns of the file.
    """
    import xarray as xr

    from probam.data.labels import names_in, row_numbers

    if shown is not None:
        predicted = _with_few_memories(predicted, shown)
    if column is None:
        columns = {"row": row_numbers(rows.contents, rows.table)}
    else:
        columns = {column: names_in(rows.contents, rows.table, column)}
    if with_inputs:
        columns |= _inputs(rows)
    taken = {"other", *map(str, predicted.variables)}
    taken |= {f"{name}_{rank}" for name in ("memory", "probability") for rank in _ranks(predicted)}
    told = {_apart(name, taken): ("datum", plain(values)) for name, values in columns.items()}
    return xr.Dataset(told, coords=predicted.coords).merge(predicted)


def _ranks(predicted: "xr.Dataset") -> list[int]:
    return predicted["rank"].values.tolist() if "rank" in predicted.coords else []


def _with_few_memories(predicted: "xr.Dataset", shown: "NDArray[np.bool_]") -> "xr.Dataset":
    """The prediction with the responsibilities of some memories, and the sum of the others."""
    import numpy as np

    each = predicted["responsibilities"]
    other = each.isel(memory=np.flatnonzero(~shown)).sum("memory")
    return predicted.isel(memory=np.flatnonzero(shown)).assign(other=other)


def _inputs(rows: "Rows") -> dict[str, Any]:
    """The columns of the file by title."""
    import pandas as pd

    from probam.data.columns import title

    frame = rows.contents if isinstance(rows.contents, pd.DataFrame) else rows.table.frame()
    return {title(name): frame.iloc[:, i].to_numpy() for i, name in enumerate(frame.columns)}


def _apart(name: str, taken: set[str]) -> str:
    """A title that no column of the prediction has."""
    return f"input_{name}" if name.startswith("responsibilities_") else titled(name, taken)
