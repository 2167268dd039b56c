"""The command that puts fits, or engines, side by side."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from probam.cli.arguments import table_of
from probam.cli.console import Bar, interruptible
from probam.cli.program import Json, api_ready, app
from probam.errors import InputError

if TYPE_CHECKING:
    import numpy as np

__all__ = ["compare"]

_MODEL = "Model (with --engines)"


@app.command(
    epilog="Examples:\n\n  probam compare em.nc nuts.nc gibbs.nc --held-out new.csv\n\n"
    "  probam compare iris --engines em,cavi,gibbs,nuts --components 10 --labels iris -o table.csv"
)
def compare(
    fits: Annotated[
        list[str],
        typer.Argument(
            metavar="FIT.nc... | DATA",
            help="Saved fits; or, with --engines, data (a file or a shipped set's name).",
            show_default=False,
        ),
    ],
    held_out: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="Score the fits on these data, which none of them has seen. With --engines, the share of DATA to "
            "keep apart (0.2 unless said).",
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Known classes of the held-out data, or of the fitted data where none are held out, or of DATA: a "
            "shipped set's name, or a CSV file whose last column they are.",
        ),
    ] = None,
    evidence: Annotated[
        bool, typer.Option("--evidence", help="Estimate the evidence of sampled fits by bridge sampling too.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="TABLE.csv", help="Also write the table here.")
    ] = None,
    engines: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", help="Fit DATA by each of these engines.", rich_help_panel=_MODEL),
    ] = None,
    family: Annotated[str, typer.Option(help="As in `probam fit`.", rich_help_panel=_MODEL)] = "gaussian",
    covariance: Annotated[
        str | None, typer.Option(metavar="KIND", help="As in `probam fit`.", rich_help_panel=_MODEL)
    ] = None,
    weights: Annotated[str, typer.Option(metavar="LAW", help="As in `probam fit`.", rich_help_panel=_MODEL)] = "dp",
    components: Annotated[
        int | None, typer.Option(metavar="K", help="As in `probam fit`.", rich_help_panel=_MODEL)
    ] = None,
    standardise: Annotated[
        bool, typer.Option("--standardise", help="As in `probam fit`.", rich_help_panel=_MODEL)
    ] = False,
    seed: Annotated[int, typer.Option(help="The same seed gives the same numbers on the same machine.")] = 0,
    as_json: Json = False,
) -> None:
    """Put fits (or engines) side by side: held-out score, leave-one-out, evidence, agreement with labels, time."""
    from probam.data.writing import check_writable, write_atomically

    if output is not None:
        check_writable(output, suffixes=(".csv",))
    if engines is None and (family, covariance, weights, components, standardise) != (
        "gaussian",
        None,
        "dp",
        None,
        False,
    ):
        raise InputError("--family, --covariance, --weights, --components, --standardise: they need --engines")
    api = api_ready()
    import probam.comparison.compare as comparison
    from probam.fits.choices import find_engine

    truth = None if labels is None else _labels(labels)
    if engines is not None:
        if len(fits) != 1:
            raise InputError(f"DATA: expected one with --engines; got {len(fits)}")
        share = 0.2 if held_out is None else _share(held_out)
        data = table_of(fits[0], None, None)
        names = [name.strip() for name in engines.split(",") if name.strip()]
        for name in names:
            find_engine(name, {})
        with Bar("comparing") as bar:
            frame, _ = interruptible(
                lambda: comparison.compare_engines(
                    data,
                    names,
                    held_out=share,
                    labels=truth,
                    seed=seed,
                    bridged=evidence,
                    progress=bar,
                    family=family,
                    covariance=covariance,
                    weights=weights,
                    components=components,
                    standardise=standardise,
                )
            )
    else:
        loaded = {name: api.load(path) for name, path in zip(_names(fits), fits, strict=True)}
        apart = None if held_out is None else table_of(held_out, None, None, prefer=next(iter(loaded.values())).columns)
        with Bar("comparing"):
            frame = interruptible(lambda: comparison.compare(loaded, apart, truth, bridged=evidence, seed=seed))
    if output is not None:
        with write_atomically(output) as temporary:
            frame.to_csv(temporary, index_label="fit")
    if as_json:
        print(json.dumps(comparison.comparison_record(frame), indent=2))
    else:
        print(comparison.comparison_text(frame))
        if output is not None:
            print(f"wrote {output}")


def _names(paths: list[str]) -> list[str]:
    """File names without their ending; whole paths where two would be alike."""
    stems = [Path(path).stem for path in paths]
    if len(set(paths)) < len(paths):
        raise InputError("FIT.nc: the same fit is named twice; leave one out")
    return stems if len(set(stems)) == len(stems) else paths


def _share(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise InputError(f"--held-out: with --engines expected a share such as 0.2; got {text!r}") from error


def _labels(source: str) -> "np.ndarray":
    """Classes of a shipped set, or the last column of a CSV file."""
    import pandas as pd

    from probam.data.shipped import load_labels

    if not Path(source).exists():
        return load_labels(source)
    try:
        return pd.read_csv(source).iloc[:, -1].to_numpy()
    except (OSError, ValueError, IndexError) as error:
        raise InputError(f"--labels: {source} cannot be read as CSV ({error})") from error
