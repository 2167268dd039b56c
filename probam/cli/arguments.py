"""Arguments of the command line as Python values: data, and options of engines."""

import csv
import json
import shlex
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probam.cli.console import advise
from probam.errors import InputError, column_named, rows_named

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from probam.data.source import RowSource
    from probam.data.table import Table
    from probam.fits.spread import SpreadRows

__all__ = [
    "check_apart",
    "check_output",
    "engine_options",
    "labelled_table_of",
    "labels_in",
    "labels_of_fitted",
    "names_in",
    "source_of_rows",
    "source_to_fit",
    "table_of",
    "table_to_fit",
    "values_in",
]


def table_of(data: str, **reading: Any) -> "Table":
    """The data of a file or, where there is no file of that name, of a shipped set.

    Args:
        data: path of a file, or name of a shipped set.
        reading: keywords of :func:`labelled_table_of`.
    """
    return labelled_table_of(data, None, **reading)[0]


def labelled_table_of(
    data: str,
    labels: str | None,
    *,
    columns: list[str] | None = None,
    drop: list[str] | None = None,
    variable: str | None = None,
    features: Sequence[str] | None = None,
    missing: bool = False,
) -> tuple["Table", "np.ndarray | None"]:
    """The data of a file, of standard input or of a shipped set, without the column of their labels, and the labels.

    Args:
        data: path of a file, ``-`` for CSV on standard input, or name of a shipped set.
        labels: name of the column of labels, ``label`` of a shipped set; None where there is none.
        columns: names of columns to keep, each word possibly several, separated by commas; None takes all.
        drop: names of columns to leave out, likewise.
        variable: which array of an NPZ, NetCDF or Zarr file to use.
        features: those that a fit has learned, for questions to it.
        missing: allow missing entries.
    """
    from probam.data.labels import split_labels
    from probam.data.reading import read, source_of
    from probam.data.table import as_table

    reading = _chosen(labels, columns=columns, drop=drop) | {"features": features, "missing": missing}
    if not _is_file(data):
        table, known = _shipped(data, labels)
        return as_table(table, variable=variable, **reading), known
    contents = read(data, variable=variable)
    rest, known = (contents, None) if labels is None else split_labels(data, labels, contents=contents)
    return as_table(rest, name=source_of(data), **reading), known


def source_of_rows(
    data: str,
    labels: str | None,
    *,
    drop: list[str] | None = None,
    variable: str | None = None,
    normalise: bool = False,
    features: Sequence[str] | None = None,
    missing: bool = False,
) -> "RowSource":
    """What :func:`labelled_table_of` reads, as a source of rows that stay in the file.

    Args:
        data: as there.
        labels: as there.
        drop: as there.
        variable: as there.
        normalise: divide each row by its length.
        features: as there.
        missing: as there.
    """
    from probam.data.source import row_source

    reading = {**_chosen(labels, drop=drop), "features": features, "missing": missing, "normalise": normalise}
    if _is_file(data):
        return row_source(data, variable=variable, labels=labels, **reading)
    table, known = _shipped(data, labels)
    return row_source(table, variable=variable, labels=known, **reading)


def _is_file(data: str) -> bool:
    """Whether this names a file or standard input, and not a shipped set."""
    return data == "-" or Path(data).exists() or bool(Path(data).suffix) or ":" in data


def _chosen(labels: str | None, **words: list[str] | None) -> dict[str, Any]:
    """Names of columns without that of the labels, by argument."""
    names = {how: names_in(each) for how, each in words.items()}
    return {how: each and [name for name in each if name != labels] for how, each in names.items()}


def table_to_fit(data: str, options: dict[str, Any], labels: str | None) -> tuple["Table", "np.ndarray | None"]:
    """The columns to fit, and the labels; in ``options``, the column of sample weights is replaced by its values.

    Args:
        data: path of a file, or name of a shipped set.
        options: of a fit; those that say what is read of the data are carried out.
        labels: name of the column of labels; None where there is none.
    """
    import pandas as pd

    from probam.data.columns import positions
    from probam.data.table import check_rows

    columns, drop, weight = (options.pop(name, None) for name in ("columns", "drop", "sample_weight"))
    missing = options.get("missing", False)
    reading = {"drop": drop, "variable": options.get("variable"), "missing": missing or weight is not None}
    of_file = columns if columns is None or weight is None else [*columns, weight]
    with column_named("sample_weight", weight):
        table, known = labelled_table_of(data, labels, columns=of_file, **reading)
    if weight is not None:
        with column_named("sample_weight", weight):
            at = positions([weight], table.columns, table.source)[0]
        options["sample_weight"] = pd.Series(table.values[:, at].copy(), name=weight)
        table = replace(table.select([name for name in table.columns if name != weight]), missing=missing)
    if (columns, drop, labels) != (None, None, None):
        options["columns"] = list(table.columns)
    check_rows(table)
    if columns is None:
        _say_what_looks_like_labels(table)
    return table, known


def source_to_fit(data: str, options: dict[str, Any], labels: str | None) -> "RowSource | SpreadRows | None":
    """The rows of a file that do not fit into the memory that was given; None where they do, or none was given.

    Args:
        data: path of a file, or name of a shipped set.
        options: of a fit; those that say what is read of the data are carried out where there is a source.
        labels: name of the column of labels; None where there is none.
    """
    if options.get("distributed"):
        if "{process}" not in data and not Path(data).exists():
            raise InputError(
                f"DATA: expected a file that every process can read, or the files of all with {{process}} in the place "
                f"of its number; got {data!r}"
            )
    elif options.get("memory") is None or not Path(data).exists():
        return None
    from probam.data.source import row_source
    from probam.fits.larger import larger_source
    from probam.fits.options import FitOptions
    from probam.fits.spread import of_this_process

    chosen: dict[str, Any] = {how: names_in(options.get(how)) for how in ("columns", "drop")}
    some, weight, own = (chosen["columns"], chosen["drop"], labels), options.get("sample_weight"), data
    if weight is not None and chosen["columns"] is None:  # it is no feature
        chosen["drop"] = [*(chosen["drop"] or ()), weight]
    if options.get("distributed"):
        rows: Any = data
        chosen |= {} if labels is None else {"labels": labels}
        own = of_this_process(data)
    else:
        reading = {"missing": options.get("missing", False), "variable": options.get("variable")}
        with column_named("sample_weight", weight):
            rows = row_source(data, **chosen, labels=labels, **reading)
    with column_named("sample_weight", weight):
        source = larger_source(rows, FitOptions(**(options | chosen)))
        if source is None:
            return None
        if weight is not None:
            options["sample_weight"] = _weights_in(own, weight, options.get("variable"))
    for name in ("columns", "drop", "variable"):
        options.pop(name, None)
    if some != (None, None, None):
        options["columns"] = list(source.columns)
    return source


def _weights_in(data: str, column: str, variable: str | None) -> "pd.Series":
    """A column of a file that says how often each row counts, read in blocks."""
    import numpy as np
    import pandas as pd

    from probam.data.source import row_source
    from probam.inference.common.rows import check_weight

    source = row_source(data, columns=[column], variable=variable)
    values = []
    for block in source.blocks(source.rows_at_once):
        with rows_named(block.row_words):
            values.append(check_weight(block.values[:, 0], block.num_data, block.values.dtype, are_all=False))
    return pd.Series(np.concatenate(values), name=column)


def labels_in(source: str) -> "np.ndarray | None":
    """The last column of a CSV file, or the classes of a shipped set; None where there is neither of that name.

    Raises :class:`probam.errors.InputError` for a file that cannot be read as CSV.
    """
    import pandas as pd

    from probam.data.shipped import load_labels, shipped

    if not Path(source).exists():
        return load_labels(source) if source in {record.name for record in shipped()} else None
    try:
        return pd.read_csv(source).iloc[:, -1].to_numpy()
    except (OSError, ValueError, IndexError) as error:
        raise InputError(f"--labels: {source} cannot be read as CSV ({error})") from error


def labels_of_fitted(text: str, fitted: str) -> "np.ndarray":
    """Known labels of the rows of a fit.

    Args:
        text: FILE:COLUMN, a CSV file (its last column), a shipped set, or a column of the data that were fitted.
        fitted: where these came from: path of a file, or name of a shipped set.

    Raises:
        InputError: where there are no such labels.
    """
    from probam.data.labels import split_labels

    known = labels_in(text)
    if known is not None:
        return known
    file, _, column = text.rpartition(":")
    if file and Path(file).exists():
        return split_labels(file, column)[1]
    if Path(fitted).exists():
        return split_labels(fitted, text)[1]
    of_shipped = labels_in(fitted) if text == "label" else None
    if of_shipped is None:
        raise InputError(
            f"--labels: {text} is neither a file nor a shipped set, and the data of the fit ({fitted or 'an array'}) "
            "are no file that could have such a column; give FILE:COLUMN"
        )
    return of_shipped


def names_in(words: Sequence[str] | None) -> list[str] | None:
    """Names of columns, of which each word has one or, separated by commas, several; None where none are given."""
    if words is None:
        return None
    return [name for word in words for name in next(csv.reader([word], skipinitialspace=True), [])]


def _shipped(name: str, labels: str | None) -> tuple["Table", "np.ndarray | None"]:
    """A shipped set and, where its column ``label`` is asked for, its known classes."""
    from difflib import get_close_matches

    from probam.data.shipped import load_labels, load_shipped, shipped

    names = [record.name for record in shipped()]
    if name not in names:
        close = get_close_matches(name, names, n=1)
        hint = f"did you mean {close[0]!r}?" if close else "`probam data` lists the sets"
        raise InputError(f"{name}: no such file, and no shipped set of that name; {hint}")
    if labels not in (None, "label"):
        raise InputError(f"labels: the known classes of a shipped set are its column 'label'; got {labels!r}")
    return load_shipped(name), None if labels is None else load_labels(name)


def _say_what_looks_like_labels(table: "Table") -> None:
    """One line on stderr for each column that looks like labels of the rows, with the flags that leave it out."""
    from probam.data.labels import label_like

    for name in label_like(table):
        word = shlex.quote(name)
        advise(
            f"{table.source}: column {name!r} has few distinct whole numbers, as labels have, and is fitted as "
            f"a feature; --drop {word} leaves it out, --labels {word} also compares the memories with it"
        )


def check_output(output: Path, suffixes: tuple[str, ...], *, as_json: bool) -> None:
    """Raise :class:`probam.errors.InputError` where a table cannot be written here; ``-`` is standard output.

    Args:
        output: a file, or ``-``.
        suffixes: endings of which the name of a file must have one.
        as_json: whether standard output is to have the results as JSON.
    """
    from probam.data.writing import check_writable

    if str(output) != "-":
        check_writable(output, suffixes=suffixes)
    elif as_json:
        raise InputError("-o -: --json writes the results to standard output too; write the table to a file")


def check_apart(output: Path, *inputs: str | Path) -> None:
    """Raise :class:`probam.errors.InputError` where the output would replace an input."""
    for path in map(Path, inputs):
        if output.exists() and path.exists() and output.samefile(path):
            raise InputError(f"{output}: this file is the input; choose another name for the output")


def values_in(texts: Sequence[str], what: str = "option") -> dict[str, Any]:
    """Values by name, from NAME=VALUE; numbers, true, false and null are read as in JSON, anything else is text.

    Args:
        texts: the words of a flag that may be given several times.
        what: the flag, in messages.
    """
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name:
            raise InputError(f"{what}: expected NAME=VALUE, for example target_accept=0.95; got {text!r}")
        if name in values:
            raise InputError(f"{what}: {name} is given twice; give it one value")
        try:
            values[name] = json.loads(value)
        except (ValueError, RecursionError):
            values[name] = value
    return values


def engine_options(texts: Sequence[str]) -> dict[str, Any]:
    """Options of an engine from NAME=VALUE; those that have a flag of their own, or none, are refused."""
    from probam.fits.options import FitOptions
    from probam.options import flag_of

    values = values_in(texts)
    for each in fields(FitOptions):
        if each.name in values:
            flag = flag_of(each) or {"output": "-o", "labels": "--labels"}.get(each.name)
            remedy = "it can be given in Python only" if flag is None else f"give it as {flag}"
            raise InputError(f"{each.name}: --option is for other options of the engine; {remedy}")
    return values
