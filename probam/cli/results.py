"""Results of commands: text for people, JSON for machines, tables in files or on standard output."""

import contextlib
import json
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probam.cli.console import advise

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from probam.data.writing import Writer
    from probam.equivalence.check import Check
    from probam.fits.fitted import Fit
    from probam.reports.summaries.contingency import Agreement

__all__ = [
    "agreement_text",
    "check_line",
    "checks_text",
    "fit_record",
    "fit_text",
    "print_json",
    "result_writer",
    "tell",
    "write_result",
    "wrote",
]


def tell(text: str, record: Mapping[str, Any], *, as_json: bool, output: Path | None = None) -> None:
    """Print results, as text or as JSON; text goes to stderr where the table is on standard output.

    Args:
        text: for people.
        record: the same for machines.
        as_json: print the record.
        output: where the table is, if there is one.
    """
    if as_json:
        print_json(record if output is None else {**record, "wrote": str(output)})
    elif output is None:
        print(text)
    elif str(output) == "-":
        for line in text.splitlines():
            advise(line)
    else:
        print(f"{text}\nwrote {output}")


def wrote(output: Path, *, as_json: bool) -> None:
    """Say which file was written."""
    if as_json:
        print_json({"wrote": output})
    else:
        print(f"wrote {output}")


def print_json(record: Any) -> None:
    """JSON on stdout; numbers that JSON does not know (NaN, infinities) are null."""
    print(json.dumps(_finite(record), indent=2, allow_nan=False))


def write_result(data: "xr.Dataset", output: Path, *, plain: str | None = None) -> None:
    """Write a dataset as :func:`probam.data.writing.write_dataset` does, or as CSV to standard output for ``-``."""
    with result_writer(output, plain=plain) as write:
        write(data)


@contextlib.contextmanager
def result_writer(output: Path, *, plain: str | None = None) -> Iterator["Writer"]:
    """What writes datasets one after the other as :func:`write_result` does; on standard output they are seen at once.

    Args:
        output: a file, or ``-``.
        plain: as for :func:`probam.data.writing.write_dataset`.
    """
    from probam.data.writing import csv_writer, dataset_writer

    if str(output) == "-":
        yield csv_writer(sys.stdout, plain=plain)
        return
    with dataset_writer(output, plain=plain) as write:
        yield write


def _finite(value: Any) -> Any:
    """A value as JSON can hold it: numbers that it does not know as null, arrays as lists."""
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):
        return _finite(value.tolist())
    return None if isinstance(value, float) and not abs(value) < float("inf") else value


# --- words ----------------------------------------------------------------------------------------------------


def checks_text(checks: Sequence["Check"], path: Path) -> str:
    """The checks of one fitted model, a line each."""
    width = max((len(check.name) for check in checks), default=0)
    lines = ["", f"{path}: the energy of the physics against the log density of the program, at posterior draws"]
    return "\n".join([*lines, *(f"  {check_line(check, width)}" for check in checks)])


def check_line(check: "Check", width: int) -> str:
    """A check in a line; its name is as wide as ``width``."""
    verdict = "passed" if check.passed else "FAILED"
    return (
        f"{verdict}  {check.name:<{width}}  error {check.error:.1e} of {check.tolerance:.1e} allowed  "
        f"({check.relation}; {check.witnesses})"
    )


def agreement_text(agreement: "Agreement") -> str:
    """How well memories agree with known labels, in a line."""
    return (
        f"agreement with {agreement.num_labels} labels of {agreement.num_data} data: "
        f"adjusted Rand index {agreement.ari:.3f}, normalised mutual information {agreement.nmi:.3f}"
    )


def fit_text(fitted: "Fit", output: Path, agreement: "Agreement | None" = None, labels: str | None = None) -> str:
    """The results, where they were saved and what to do next.

    Args:
        fitted: the fit.
        output: its file.
        agreement: with known labels.
        labels: the column that has them, which the report can be told too.
    """
    lines = [fitted.summary_text().rstrip()]
    if agreement is not None:
        lines.append(agreement_text(agreement))
    cut = _plain(fitted.tree.attrs.get("truncation", ""))
    if cut:
        lines.append(
            f"[truncation] {cut['num_components']:.0f} memories leave out {_sized(cut['expected_remaining'])} of the "
            f"prior's weight on average; the total variation error of the prior law of the data is at most "
            f"{_sized(cut['tv_bound'])}"
        )
    recorded = str(fitted.tree.attrs["family"])
    fit = f"{output} --family {recorded}" if ":" in recorded else str(output)
    known = "" if labels is None else f" --labels {shlex.quote(labels)}"
    lines += [
        "",
        f"saved {output}",
        f"next: probam report {fit}{known}    (a page to read)",
        f"      probam verify {fit}    (is the energy the likelihood?)",
        f"      probam predict {fit} DATA -o labels.csv",
    ]
    return "\n".join(lines)


def fit_record(fitted: "Fit", output: Path, agreement: "Agreement | None" = None) -> dict[str, Any]:
    """The same for machines; what was maximised and the log likelihood there come first."""
    from probam.reports.summaries.estimate import bounds_memories, estimate_in_words, total_log_likelihood
    from probam.reports.tree import variable

    attributes = {str(key): _plain(value) for key, value in fitted.tree.attrs.items()}
    memory = fitted.tree["memory"].to_dataset()
    memories = {str(key): value.values.tolist() for key, value in memory.data_vars.items() if value.dims == ("memory",)}
    summary = _records(fitted.summary())
    total = total_log_likelihood(fitted.tree)
    occupied = variable(fitted.tree, "invariant", "num_occupied").values
    record: dict[str, Any] = {
        "estimate": estimate_in_words(fitted.tree),
        "log_likelihood": None if total is None else float(total.mean()),
        "memories_that_hold_data": {"mean": float(occupied.mean()), "upper_bound": bounds_memories(fitted.tree)},
        "saved": str(output),
        **attributes,
        "columns": list(fitted.columns),
        "memory": memories,
        "summary": summary,
    }
    if agreement is not None:
        record["agreement"] = agreement._asdict()
    return record


def _records(frame: "pd.DataFrame") -> list[dict[str, Any]]:
    """Rows of a frame, its index under ``name``."""
    rows = frame.astype(object).where(frame.notna(), None).to_dict(orient="index")
    return [{"name": str(name), **{str(key): value for key, value in row.items()}} for name, row in rows.items()]


def _plain(value: Any) -> Any:
    """An attribute of a saved fit; text that holds JSON as what it holds."""
    if isinstance(value, str) and value[:1] in "{[":
        with contextlib.suppress(ValueError):
            return json.loads(value)
    return value.item() if hasattr(value, "item") else value


def _sized(number: float) -> str:
    return "less than 1e-12" if number < 1e-12 else f"{number:.2g}"
