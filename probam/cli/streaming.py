"""The command that makes memories as data arrive."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from probam.cli.arguments import check_apart
from probam.cli.console import Bar, interruptible, say
from probam.cli.program import Columns, FitOutput, Json, api_ready, app
from probam.errors import InputError

__all__ = ["stream"]

_MODEL, _STREAM, _CHANGE = "Model", "Stream", "A world that changes"


@app.command(
    epilog="Examples:\n\n"
    "  probam stream readings.csv -o fit.nc\n\n"
    "  generate | probam stream - --covariance diagonal --alpha 2 -o fit.nc\n\n"
    "  probam stream monday.csv -o week.nc, then probam stream tuesday.csv --resume week.nc -o week.nc\n\n"
    "FIT.nc is a fit like any other (report, predict, recall, verify read it) and can be gone on from with --resume, "
    "in the same bits as if the data had come in one piece."
)
def stream(
    context: typer.Context,
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="A file (.csv, .tsv, .parquet, .npy are read in blocks), - for CSV on standard input, or a shipped "
            "set's name.",
            show_default=False,
        ),
    ],
    output: FitOutput = Path("fit.nc"),
    family: Annotated[
        str,
        typer.Option(
            help="What a memory is: gaussian, vmf, bernoulli, multinomial, or laplace (approximately).",
            rich_help_panel=_MODEL,
        ),
    ] = "gaussian",
    covariance: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="Of Gaussian memories: isotropic (one known width), spherical, diagonal or full (learned).",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    alpha: Annotated[
        float,
        typer.Option(
            metavar="A", help="Larger makes more memories (`probam prior` chooses it).", rich_help_panel=_MODEL
        ),
    ] = 1.0,
    discount: Annotated[
        float,
        typer.Option(
            metavar="D", help="In [0, 1): nearer 1 keeps a longer tail of small memories.", rich_help_panel=_MODEL
        ),
    ] = 0.0,
    standardise: Annotated[
        bool,
        typer.Option("--standardise", help="Use (x - mean) / sd of the first --warm rows.", rich_help_panel=_MODEL),
    ] = False,
    rule: Annotated[
        str | None,
        typer.Option(
            metavar="RULE",
            help="Where a datum goes: map (the most probable memory; the default of one particle) or sample (drawn by "
            "probability; that of several).",
            rich_help_panel=_STREAM,
        ),
    ] = None,
    energy: Annotated[
        str,
        typer.Option(
            help="collapsed (exact), conditional (memories as points, exact normaliser) or printed (the paper's "
            "Eq. 12, which creates far too much in many dimensions).",
            rich_help_panel=_STREAM,
        ),
    ] = "collapsed",
    warm: Annotated[
        int,
        typer.Option(
            metavar="N", help="First rows, from which prior and units are taken.", rich_help_panel=_STREAM, min=2
        ),
    ] = 1000,
    tidy_every: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="After every N data, merge memories whose joint posterior gains by it; 0 never.",
            rich_help_panel=_STREAM,
            min=0,
        ),
    ] = 0,
    particles: Annotated[
        int,
        typer.Option(
            metavar="P",
            help="Partitions that are followed side by side; several give the evidence and the uncertainty.",
            rich_help_panel=_STREAM,
            min=1,
        ),
    ] = 1,
    resampling: Annotated[
        str,
        typer.Option(
            metavar="RULE",
            help="How particles give way: systematic, or optimal (the best seats of all are kept; surer and dearer).",
            rich_help_panel=_STREAM,
        ),
    ] = "systematic",
    rejuvenate_every: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="After every N data, seat the last --window rows anew (Gibbs, split and merge); 0 never. One pass "
            "without it makes too few memories where widths are learned.",
            rich_help_panel=_STREAM,
            min=0,
        ),
    ] = 0,
    window: Annotated[int, typer.Option(metavar="N", help="Rows kept for that.", rich_help_panel=_STREAM, min=1)] = 500,
    half_life: Annotated[
        float | None,
        typer.Option(
            metavar="N", help="Memories fade: a datum counts half after N more data.", rich_help_panel=_CHANGE
        ),
    ] = None,
    drift: Annotated[
        float,
        typer.Option(
            metavar="V",
            help="Memories move: variance of their step at each datum (isotropic).",
            rich_help_panel=_CHANGE,
        ),
    ] = 0.0,
    slots: Annotated[
        int,
        typer.Option(
            metavar="M",
            help="Room for so many memories; a new one takes the place of the one worth least. 0: as many as it takes.",
            rich_help_panel=_CHANGE,
            min=0,
        ),
    ] = 0,
    learn_alpha: Annotated[
        bool, typer.Option("--learn-alpha", help="Learn alpha along the stream.", rich_help_panel=_MODEL)
    ] = False,
    learn_discount: Annotated[
        bool, typer.Option("--learn-discount", help="Learn the discount too.", rich_help_panel=_MODEL)
    ] = False,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="FIT.nc",
            help="Go on from this stream, with its own model and rule.",
            rich_help_panel=_STREAM,
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed and data give the same bits.")] = 0,
    columns: Columns = None,
    float32: Annotated[bool, typer.Option("--float32", help="Single precision.")] = False,
    as_json: Json = False,
) -> None:
    """Take DATA in one pass, recalling, updating or creating a memory for each datum, and save what was learned."""
    from probam.data.writing import check_writable

    check_writable(output, suffixes=(".nc",))
    if data != "-":
        check_apart(output, data)
    chosen: dict[str, Any] = {
        "family": family,
        "covariance": covariance,
        "alpha": alpha,
        "discount": discount,
        "standardise": standardise,
        "rule": rule,
        "energy": energy,
        "warm": warm,
        "tidy_every": tidy_every,
        "particles": particles,
        "resampling": resampling,
        "rejuvenate_every": rejuvenate_every,
        "window": window,
        "half_life": half_life,
        "drift": drift,
        "slots": slots,
        "learn_alpha": learn_alpha,
        "learn_discount": learn_discount,
        "seed": seed,
    }
    if resume is not None:
        given = [name for name in chosen if getattr(context.get_parameter_source(name), "name", "DEFAULT") != "DEFAULT"]
        if given:
            raise InputError(f"--{given[0].replace('_', '-')}: --resume goes on with the stream's own; leave it out")
    api_ready(float32=float32)
    from probam.streams.stream import Stream, run_stream

    began = None if resume is None else Stream.load(resume)
    with Bar("streaming") as bar:
        learned = interruptible(
            lambda: run_stream(
                _source(data), columns=columns, progress=bar, **({"begun": began} if began is not None else chosen)
            )
        )
        fitted = interruptible(lambda: learned.to_fit(progress=bar))
    fitted.save(output)
    told = {
        "memories": learned.num_memories,
        "data": learned.num_data,
        "log_predictive": learned.log_predictive,
        "log_evidence": learned.log_evidence,
        "alpha": learned.alpha,
        "discount": learned.discount,
        "warnings": learned.warnings(),
        "seconds": learned.seconds,
        "peak_mib": _peak_mib(),
        "wrote": str(output),
    }
    if as_json:
        print(json.dumps(told))
        return
    print(fitted.tree.attrs["model"])
    score = learned.log_predictive / learned.num_data
    print(f"{learned.num_memories} memories from {learned.num_data} data in {learned.seconds:.1f} s")
    print(f"log predictive {score:.4f} nats per datum, peak {told['peak_mib']:.0f} MiB")
    if particles > 1 and learned.log_evidence is not None:
        print(f"log evidence {learned.log_evidence:.2f} nats, by {particles} particles")
    print(learned.memories().head(12).to_string(float_format=lambda value: f"{value:.4g}"))
    if learned.num_memories > 12:
        print(f"({learned.num_memories - 12} smaller memories are not listed)")
    for sentence in learned.warnings():
        say(sentence)
    print(f"wrote {output}")


def _source(data: str) -> Any:
    """A path, standard input, or the rows of a shipped set."""
    from probam.cli.arguments import table_of

    return data if data == "-" or Path(data).exists() else table_of(data, None, None)


def _peak_mib() -> float:
    """Most memory that this process has held."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
