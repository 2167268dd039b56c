"""The command that puts fits, or engines, side by side."""

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from probam.cli.arguments import labelled_table_of, labels_in, table_to_fit
from probam.cli.choosing import choose_covariance
from probam.cli.console import Bar, interruptible
from probam.cli.flags import flags
from probam.cli.program import Json, api_ready, app, fits_by_name
from probam.cli.results import print_json
from probam.errors import InputError
from probam.fits.options import ENGINES, FitOptions
from probam.options import option_of

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from probam.fits.fitted import Fit

__all__ = ["compare"]

_MODEL = "Model (with --engines)"
_COVARIANCES = "Covariance and number of memories"
_COMPARED = [each.name for each in fields(FitOptions) if option_of(each).group in ("Model", "Data")]
"""Options of a fit that all engines share."""


_Fits = Annotated[
    list[str],
    typer.Argument(
        metavar="FIT.nc... | DATA",
        help="Saved fits; or, with --engines or --covariances, data (a file or a shipped set's name).",
        show_default=False,
    ),
]
_HeldOut = Annotated[
    str | None,
    typer.Option(
        metavar="DATA",
        help="Score the fits on these data, which none of them has seen. With --engines, the share of DATA to "
        "hold out (0.2 by default).",
    ),
]
_Labels = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN|FILE",
        help="Known classes of the held-out data (of the fitted data without --held-out; of DATA with --engines): "
        "a column of these data, a shipped set's name, or a CSV file whose last column they are.",
    ),
]
_Outputs = Annotated[
    list[Path] | None,
    typer.Option(
        "-o",
        "--output",
        metavar="TABLE.csv|PAGE.html|FIT.nc",
        help="Also write the table here, or a page with pictures: scores with their errors, memories in use, seconds, "
        "and the partitions side by side. With --covariances also the fit of the best model. May be given for each.",
    ),
]
_Covariances = Annotated[
    bool,
    typer.Option(
        "--covariances",
        help="Choose the covariance of Gaussian memories (isotropic, spherical, diagonal, tied, full) and their number "
        "(1 to --components, by default 9) for DATA, by --criteria; --covariance A,B tries these alone.",
        rich_help_panel=_COVARIANCES,
    ),
]
_Criteria = Annotated[
    str,
    typer.Option(
        metavar="A,B,...",
        help="Of bic, icl (maximum likelihood by em), loo and evidence (the six models of best BIC are sampled, which "
        "takes minutes). The first one chooses what -o FIT.nc has.",
        rich_help_panel=_COVARIANCES,
    ),
]
_Engines = Annotated[
    str | None,
    typer.Option(
        metavar="A,B,...|all",
        help=f"Fit DATA by each of these engines: {', '.join(ENGINES)}, or stream, which reads the rows one by one; "
        "all: every one of them. An engine that does not take the model has a row that says why.",
        rich_help_panel=_MODEL,
    ),
]


@app.command(
    epilog="Examples:\n\n  probam compare em.nc nuts.nc gibbs.nc --held-out new.csv\n\n"
    "  probam compare iris --engines em,cavi,gibbs,nuts --components 10 --labels iris -o table.csv\n\n"
    "  probam compare iris --engines all --attractors -o page.html\n\n"
    "  probam compare faithful --covariances -o page.html -o best.nc"
)
@flags(FitOptions, only=_COMPARED, group=_MODEL, into="model", after="engines")
def compare(
    fits: _Fits,
    model: dict[str, Any],
    held_out: _HeldOut = None,
    labels: _Labels = None,
    evidence: Annotated[
        bool, typer.Option("--evidence", help="Estimate the evidence of sampled fits by bridge sampling too.")
    ] = False,
    attractors: Annotated[
        bool, typer.Option("--attractors", help="Recall with each fit, and count where it ends (seconds a fit).")
    ] = False,
    output: _Outputs = None,
    covariances: _Covariances = False,
    criteria: _Criteria = "bic,icl",
    engines: _Engines = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same numbers on the same machine.")] = 0,
    as_json: Json = False,
) -> None:
    """Put fits (or engines) side by side: held-out score, leave-one-out, evidence, agreement with labels, time."""
    from probam.data.writing import check_writable

    for path in output or ():
        check_writable(path, suffixes=(".csv", ".html", ".nc") if covariances else (".csv", ".html"))
    if covariances:
        _check_covariances(held_out=held_out, labels=labels, evidence=evidence, attractors=attractors, engines=engines)
        api_ready()
        choose_covariance(fits, model, criteria, seed, as_json=as_json, output=output or [])
        return
    own = _own_family(model) if engines is None else None
    api_ready()
    how: dict[str, Any] = {"bridged": evidence, "attractors": attractors, "seed": seed}
    if engines is None:
        frame, compared = _compare_fits(fits, held_out, labels, own, **how)
    else:
        frame, compared = _compare_engines(fits, engines, held_out, labels, model, **how)
    for path in output or ():
        _write(frame, compared, path, subject="" if engines is None else fits[0])
    _print(frame, as_json=as_json)
    for path in () if as_json else output or ():
        print(f"wrote {path}")


def _check_covariances(**others: Any) -> None:
    """Refuse flags that ask for another comparison than that of covariances."""
    given = [f"--{name.replace('_', '-')}" for name, value in others.items() if value]
    if given:
        raise InputError(
            f"{', '.join(given)}: not with --covariances, which fits all rows and compares by --criteria bic, icl, loo "
            "and evidence"
        )


def _write(frame: "pd.DataFrame", compared: "dict[str, Fit]", output: Path, *, subject: str) -> None:
    """The table as CSV, or the page."""
    from probam.comparison.scores_page import write_scores
    from probam.data.writing import write_atomically

    if output.suffix.lower() == ".html":
        write_scores(frame, compared, output, subject=subject)
        return
    with write_atomically(output) as temporary:
        frame.to_csv(temporary, index_label="fit")


def _own_family(model: dict[str, Any]) -> str | None:
    """The family of the user's own that the fits were made with; every other option of a model is refused."""
    own = model["family"] if ":" in model["family"] else None
    changed = [name for name in FitOptions(**model).changed() if own is None or name != "family"]
    if changed:
        flags_given = ", ".join(f"--{name.replace('_', '-')}" for name in changed)
        raise InputError(f"{flags_given}: the model and what is read of DATA; they need --engines or --covariances")
    return own


def _compare_fits(
    fits: list[str], held_out: str | None, labels: str | None, own: str | None, **options: Any
) -> "tuple[pd.DataFrame, dict[str, Fit]]":
    """The table of saved fits, by file name, and the fits; ``own`` names the code of the family of some of them."""
    from probam.comparison.compare import compare

    loaded = fits_by_name(fits, own)
    unseen, truth = None, None
    if held_out is not None:
        columns = next(iter(loaded.values())).columns
        unseen, truth = labelled_table_of(held_out, _column(labels), features=columns, missing=True)
    if truth is None and labels is not None:
        truth = _labels(labels)
    with Bar("comparing"):
        return interruptible(lambda: compare(loaded, unseen, truth, **options)), loaded


def _compare_engines(
    fits: list[str],
    engines: str,
    held_out: str | None,
    labels: str | None,
    model: dict[str, Any],
    **options: Any,
) -> "tuple[pd.DataFrame, dict[str, Fit]]":
    """The table of one model fitted by several engines to the same data, and the fits."""
    from probam.comparison.engines import compare_engines, engine_names

    if len(fits) != 1:
        raise InputError(f"DATA: expected one with --engines; got {len(fits)}")
    share = 0.2 if held_out is None else _share(held_out)
    names = engine_names("all" if engines.strip() == "all" else [name.strip() for name in engines.split(",")])
    data, truth = table_to_fit(fits[0], model, _column(labels))
    if truth is None and labels is not None:
        truth = _labels(labels)
    with Bar("comparing") as bar:
        return interruptible(
            lambda: compare_engines(data, names, held_out=share, labels=truth, progress=bar, **options, **model)
        )


def _print(frame: "pd.DataFrame", *, as_json: bool) -> None:
    from probam.comparison.compare import comparison_record, comparison_text

    if as_json:
        print_json(comparison_record(frame))
    else:
        print(comparison_text(frame))


def _share(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise InputError(f"--held-out: with --engines expected a share such as 0.2; got {text!r}") from error


def _column(labels: str | None) -> str | None:
    """The name of a column of labels; None where there are none, or a file or a shipped set has them."""
    from probam.data.shipped import shipped

    if labels is None or Path(labels).exists() or labels in {record.name for record in shipped()}:
        return None
    return labels


def _labels(source: str) -> "np.ndarray":
    """Classes of a shipped set, or the last column of a CSV file."""
    known = labels_in(source)
    if known is None:
        raise InputError(
            f"--labels: {source} is neither a file nor a shipped set; a column of labels is read of --held-out, or "
            "of DATA with --engines"
        )
    return known
