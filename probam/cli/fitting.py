"""The command that makes a fit."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from probam.cli.arguments import check_apart, engine_options, source_to_fit, table_to_fit
from probam.cli.asking import Asked
from probam.cli.connected import Place, connect
from probam.cli.console import Bar, Interrupted, interruptible
from probam.cli.flags import flags
from probam.cli.program import DATA, FitOutput, Json, Labels, api_ready, app
from probam.cli.results import fit_record, fit_text, print_json
from probam.fits.options import FitOptions

if TYPE_CHECKING:
    import numpy as np

    from probam.data.source import RowSource
    from probam.data.table import Table
    from probam.fits.fitted import Fit
    from probam.reports.summaries.contingency import Agreement

__all__ = ["fit"]

_PROCESSES = "Several processes"

Coordinator = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="Where the first process listens for the others, where no launcher says it.",
        rich_help_panel=_PROCESSES,
    ),
]
NumProcesses = Annotated[
    int | None, typer.Option(metavar="N", help="How many processes there are, likewise.", rich_help_panel=_PROCESSES)
]
ProcessId = Annotated[
    int | None, typer.Option(metavar="N", help="The number of this one, from 0, likewise.", rich_help_panel=_PROCESSES)
]


@app.command(
    epilog="Examples:\n\n"
    "  probam fit faithful -o fit.nc\n\n"
    "  probam fit table.csv --columns height,weight --standardise -o fit.nc\n\n"
    "  probam fit table.csv --drop name --labels species -o fit.nc\n\n"
    "  gunzip -c table.csv.gz | probam fit - --engine em -o fit.nc\n\n"
    "  probam fit letter20k --weights pyp --engine svi --covariance diagonal --components 60 -o letters.nc\n\n"
    "  probam fit household_directions --family vmf --weights dirichlet --components 2 --engine em -o spending.nc"
)
@flags(FitOptions)
def fit(
    data: Annotated[str, typer.Argument(metavar="DATA", help=DATA, show_default=False)],
    options: dict[str, Any],
    output: FitOutput = Path("fit.nc"),
    labels: Labels = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Any other option of the engine, for example target_accept=0.95.",
            rich_help_panel="Engine",
        ),
    ] = None,
    float32: Annotated[
        bool,
        typer.Option(
            "--float32", help="Single precision: less memory, faster on a GPU, fewer digits.", rich_help_panel="Engine"
        ),
    ] = False,
    coordinator: Coordinator = None,
    num_processes: NumProcesses = None,
    process_id: ProcessId = None,
    as_json: Json = False,
) -> None:
    """Fit a memory to DATA, save its posterior and print what was found."""
    from probam.data.writing import check_writable

    place, is_first = Place(coordinator, num_processes, process_id), True
    place.check(distributed=bool(options.get("distributed")))
    if options.get("distributed"):
        FitOptions(**options)  # what cannot be is told before the processes wait for each other
        is_first = _connected(place, float32=float32)
    if is_first:
        check_writable(output, suffixes=(".nc",))
        check_apart(output, data)
    if options.get("memory") is not None:
        api_ready(float32=float32)  # what decides whether the rows fit into memory brings JAX
    source = interruptible(lambda: source_to_fit(data, options, labels))  # where processes wait for each other
    table, known = (None, None) if source is not None else table_to_fit(data, options, labels)
    options |= engine_options(option or [])
    api = api_ready(float32=float32)
    rows, before = source if table is None else table.astype("float32") if float32 else table, _version(output)
    try:
        with Bar("fitting") as bar:
            fitted = interruptible(lambda: api.fit(rows, output=output, progress=bar, **options))
    except Interrupted as interruption:
        raise Interrupted(_kept(output, before, options.get("checkpoint"))) from interruption
    if not is_first:
        return
    agreement = None
    if table is not None and known is not None:
        agreement = _agreement(fitted, table, known)
    elif labels is not None:
        agreement = _agreement_of_all(fitted, cast("RowSource", source))  # several processes refuse labels
    if as_json:
        print_json(fit_record(fitted, output, agreement))
    else:
        print(fit_text(fitted, output, agreement, labels if source is None else None))  # a sample has no labels


def _connected(place: Place, *, float32: bool) -> bool:
    """Whether this is the first of the processes, to which it is connected now."""
    first: list[bool] = []
    api_ready(float32=float32, connect=lambda: first.append(connect(place)))
    return first[0]


def _version(path: Path) -> tuple[int, int] | None:
    """What differs between two versions of a file, whatever the clock says; None where there is none."""
    return (path.stat().st_ino, path.stat().st_mtime_ns) if path.exists() else None


def _kept(output: Path, before: tuple[int, int] | None, checkpoint: str | None) -> str:
    """What an interrupted fit has left: its result, the run so far, or nothing."""
    if _version(output) not in (None, before):
        return f"{output} holds what the engine returned; the rest is computed when it is read"
    if checkpoint is not None and Path(checkpoint).exists():
        return f"{checkpoint} holds the run so far; the same command goes on from there"
    return "nothing was written"


def _agreement_of_all(fitted: "Fit", source: "RowSource") -> "Agreement":
    """How well the memories of all rows, read once more, agree with the labels that the file has beside them."""
    from collections import Counter

    from probam.reports.summaries.contingency import agreement_of

    counts: Counter[tuple[object, int]] = Counter()
    asked = Asked(fitted, source, None)
    for rows, found in asked.answers("comparing", lambda of: fitted.predict_blocks(of, probabilities=False)):
        assert rows.labels is not None, "the source has labels"
        counts.update(zip(rows.labels.tolist(), found["label"].values.tolist(), strict=True))
    return agreement_of(counts)


def _agreement(fitted: "Fit", table: "Table", known: "np.ndarray") -> "Agreement":
    """How well the memories of the fitted data agree with known labels."""
    from probam.reports.summaries.contingency import agreement
    from probam.reports.tree import has, variable

    is_stored = has(fitted.tree, "partition", "label")
    memories = variable(fitted.tree, "partition", "label") if is_stored else fitted.predict(table)["label"]
    return agreement(known, memories.values)
