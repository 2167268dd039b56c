"""The command that makes memories as data arrive."""

import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from probam.cli.arguments import check_apart, names_in
from probam.cli.console import Bar, Interrupted, advise, interruptible
from probam.cli.flags import flags
from probam.cli.program import Columns, Drop, FitOutput, Json, api_ready, app
from probam.cli.results import print_json
from probam.errors import InputError
from probam.streams.options import StreamOptions

if TYPE_CHECKING:
    from typer import Context

    from probam.streams.stream import Stream
else:
    Context = typer.Context.__bases__[0]  # of which commands get an object: typer's own class is for annotations

__all__ = ["stream"]

_LISTED = 12
"""Memories that are printed."""

_Checkpoint = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Write the stream to this file as it goes on. The same command again passes over the rows that were "
        "learned, also of standard input, and goes on with the same bits; for new data use --resume. The version "
        "before is kept as FILE.previous.",
        rich_help_panel="Stream",
        show_default=False,
    ),
]
_Every = Annotated[
    str | None,
    typer.Option(
        metavar="ROWS|SECONDSs",
        help="How often to write the checkpoint: after so many rows (10000) or seconds (30s). By default about "
        "every five seconds, after a block of at most 50,000 rows.",
        rich_help_panel="Stream",
        show_default=False,
    ),
]


@app.command(
    epilog="Examples:\n\n"
    "  probam stream readings.csv -o fit.nc\n\n"
    "  generate | probam stream - --covariance diagonal --alpha 2 -o fit.nc\n\n"
    "  probam stream monday.csv -o week.nc, then probam stream tuesday.csv --resume week.nc -o week.nc\n\n"
    "FIT.nc is a fit like any other (report, predict, recall, verify read it); --resume continues it, with the same "
    "bits as if the data had come in one piece."
)
@flags(StreamOptions)
def stream(
    context: Context,
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="A file (.csv, .tsv, .txt, .parquet, .npy are read in blocks, .npz and .nc at once), - for CSV on "
            "standard input, or a shipped set's name.",
            show_default=False,
        ),
    ],
    options: Mapping[str, Any],
    output: FitOutput = Path("fit.nc"),
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="FIT.nc",
            help="Continue this stream, with its own model and rule.",
            rich_help_panel="Stream",
            show_default=False,
        ),
    ] = None,
    checkpoint: _Checkpoint = None,
    every: _Every = None,
    columns: Columns = None,
    drop: Drop = None,
    float32: Annotated[bool, typer.Option("--float32", help="Single precision.")] = False,
    as_json: Json = False,
) -> None:
    """Take DATA in one pass, recalling, updating or creating a memory for each datum, and save what was learned."""
    from probam.data.writing import check_writable

    check_writable(output, suffixes=(".nc",))
    if data != "-":
        check_apart(output, data)
    own = options["family"] if ":" in options["family"] else None
    if resume is not None:
        _check_none_given(context, {name: value for name, value in options.items() if own is None or name != "family"})
    how = {"columns": names_in(columns), "drop": names_in(drop)} | _kept_in(checkpoint, every, output)
    api_ready(float32=float32)
    from probam.streams.stream import Stream, run_stream

    learned = Stream(**options) if resume is None else Stream.load(resume, family=own)
    try:
        with Bar("streaming") as bar:
            interruptible(lambda: run_stream(_source(data), begun=learned, progress=bar, **how))
            fitted = interruptible(lambda: learned.to_fit(progress=bar))
    except Interrupted as interruption:
        if checkpoint is None or not checkpoint.exists():
            raise
        raise Interrupted(f"{checkpoint} holds the rows so far; the same command goes on from there") from interruption
    fitted.save(output)
    if as_json:
        print_json(_record(learned, output))
        return
    print(fitted.tree.attrs["model"])
    print(_text(learned, options["particles"]))
    for sentence in learned.warnings():
        advise(sentence)
    print(f"wrote {output}")


def _kept_in(checkpoint: Path | None, every: str | None, output: Path) -> dict[str, Any]:
    """Where and how often the stream is kept, as :func:`probam.streams.stream.run_stream` takes it.

    >>> _kept_in(Path("run"), "10000", Path("fit.nc")) == {"checkpoint": Path("run"), "rows": 10000, "every": 0.0}
    True
    """
    if checkpoint is not None and checkpoint.resolve() == output.resolve():
        raise InputError(f"--checkpoint: {checkpoint} is the output too; give it a name of its own")
    if every is None:
        return {"checkpoint": checkpoint}
    if checkpoint is None:
        raise InputError("--every: it says how often the checkpoint is written; name its file by --checkpoint")
    with suppress(ValueError):
        if every.endswith("s") and 0 < float(every[:-1]) < math.inf:
            return {"checkpoint": checkpoint, "every": float(every[:-1])}
        if int(every) > 0:
            return {"checkpoint": checkpoint, "rows": int(every), "every": 0.0}
    raise InputError(f"--every: expected a number of rows (10000) or of seconds (30s); got {every!r}")


def _check_none_given(context: Context, options: Mapping[str, Any]) -> None:
    """Raise :class:`probam.errors.InputError` for an option of the stream on a command that resumes one."""
    for name in options:
        if getattr(context.get_parameter_source(name), "name", "DEFAULT") != "DEFAULT":
            raise InputError(f"--{name.replace('_', '-')}: --resume goes on with the stream's own; leave it out")


def _record(learned: "Stream", output: Path) -> dict[str, Any]:
    """What was learned, for machines."""
    from probam.experiments.own_process import peak_mib

    return {
        "memories": learned.num_memories,
        "data": learned.num_data,
        "log_predictive": learned.log_predictive,
        "log_evidence": learned.log_evidence,
        "alpha": learned.alpha,
        "discount": learned.discount,
        "warnings": learned.warnings(),
        "seconds": learned.seconds,
        "peak_mib": peak_mib(),
        "wrote": output,
    }


def _text(learned: "Stream", num_particles: int) -> str:
    """What was learned, for people: sizes, scores, and the largest memories."""
    from probam.experiments.own_process import peak_mib

    score = learned.log_predictive / learned.num_data
    lines = [
        f"{learned.num_memories} memories from {learned.num_data} data in {learned.seconds:.1f} s",
        f"log predictive {score:.4f} nats per datum, peak {peak_mib():.0f} MiB",
    ]
    if num_particles > 1 and learned.log_evidence is not None:
        lines.append(f"log evidence {learned.log_evidence:.2f} nats, by {num_particles} particles")
    lines.append(learned.memories().head(_LISTED).to_string(float_format=lambda value: f"{value:.4g}"))
    if learned.num_memories > _LISTED:
        lines.append(f"({learned.num_memories - _LISTED} smaller memories are not listed)")
    return "\n".join(lines)


def _source(data: str) -> Any:
    """A path, standard input, or the rows of a shipped set."""
    from probam.cli.arguments import table_of

    return data if data == "-" or Path(data).exists() else table_of(data)
