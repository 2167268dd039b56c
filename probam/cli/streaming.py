"""The command that makes memories as data arrive."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from probam.cli.arguments import check_apart, names_in
from probam.cli.console import Bar, advise, interruptible
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
    api_ready(float32=float32)
    from probam.streams.stream import Stream, run_stream

    learned = Stream(**options) if resume is None else Stream.load(resume, family=own)
    with Bar("streaming") as bar:
        kept, dropped = names_in(columns), names_in(drop)
        interruptible(lambda: run_stream(_source(data), columns=kept, drop=dropped, begun=learned, progress=bar))
        fitted = interruptible(lambda: learned.to_fit(progress=bar))
    fitted.save(output)
    if as_json:
        print_json(_record(learned, output))
        return
    print(fitted.tree.attrs["model"])
    print(_text(learned, options["particles"]))
    for sentence in learned.warnings():
        advise(sentence)
    print(f"wrote {output}")


def _check_none_given(context: Context, options: Mapping[str, Any]) -> None:
    """Raise :class:`probam.errors.InputError` for an option of the stream on a command that resumes one."""
    for name in options:
        if getattr(context.get_parameter_source(name), "name", "DEFAULT") != "DEFAULT":
            raise InputError(f"--{name.replace('_', '-')}: --resume goes on with the stream's own; leave it out")


def _record(learned: "Stream", output: Path) -> dict[str, Any]:
    """What was learned, for machines."""
    return {
        "memories": learned.num_memories,
        "data": learned.num_data,
        "log_predictive": learned.log_predictive,
        "log_evidence": learned.log_evidence,
        "alpha": learned.alpha,
        "discount": learned.discount,
        "warnings": learned.warnings(),
        "seconds": learned.seconds,
        "peak_mib": _peak_mib(),
        "wrote": output,
    }


def _text(learned: "Stream", num_particles: int) -> str:
    """What was learned, for people: sizes, scores, and the largest memories."""
    score = learned.log_predictive / learned.num_data
    lines = [
        f"{learned.num_memories} memories from {learned.num_data} data in {learned.seconds:.1f} s",
        f"log predictive {score:.4f} nats per datum, peak {_peak_mib():.0f} MiB",
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


def _peak_mib() -> float:
    """Most memory that this process has held."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
