"""The command that makes a fit."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from probam.cli.arguments import check_apart, engine_option, table_of
from probam.cli.console import Bar, fit_json, fit_text, interruptible, say
from probam.cli.flags import flags
from probam.cli.program import DATA, FitOutput, Json, api_ready, app
from probam.fits.options import FitOptions

if TYPE_CHECKING:
    from probam.data.table import Table

__all__ = ["fit"]


@app.command(
    epilog="Examples:\n\n"
    "  probam fit faithful -o fit.nc\n\n"
    "  probam fit table.csv --columns height,weight --standardise -o fit.nc\n\n"
    "  probam fit letter20k --weights pyp --engine svi --covariance diagonal --components 60 -o letters.nc\n\n"
    "  probam fit household_directions --family vmf --weights dirichlet --components 2 --engine em -o spending.nc"
)
@flags(FitOptions)
def fit(
    data: Annotated[str, typer.Argument(metavar="DATA", help=DATA, show_default=False)],
    options: dict[str, Any],
    output: FitOutput = Path("fit.nc"),
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
    as_json: Json = False,
) -> None:
    """Fit a memory to DATA, save its posterior and print what was found."""
    from probam.data.writing import check_writable

    check_writable(output, suffixes=(".nc",))
    check_apart(output, data)
    table = _table(data, options)
    options |= dict(map(engine_option, option or []))
    api = api_ready(float32=float32)
    rows, began = table.astype("float32") if float32 else table, time.time()
    try:
        with Bar("fitting") as bar:
            fitted = interruptible(lambda: api.fit(rows, output=output, progress=bar, **options))
    except KeyboardInterrupt:
        if output.exists() and output.stat().st_mtime >= began:
            say(f"{output} holds what the engine returned; the rest is computed when it is read")
        raise
    print(fit_json(fitted, output) if as_json else fit_text(fitted, output))


def _table(data: str, options: dict[str, Any]) -> "Table":
    """The columns to fit; in ``options``, the column of sample weights is replaced by its values."""
    import pandas as pd

    from probam.data.table import check_rows

    columns, weight = options.pop("columns", None), options.pop("sample_weight", None)
    of_file = columns if columns is None or weight is None else [*columns, weight]
    table = table_of(data, of_file, options.get("variable"), missing=options["missing"])
    if weight is not None:
        options["sample_weight"] = pd.Series(table.select([weight]).values[:, 0], name=weight)
        table = table.select([name for name in table.columns if name != weight])
    if columns is not None:
        options["columns"] = list(table.columns)
    check_rows(table)
    return table
