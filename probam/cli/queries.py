"""Commands that question a saved fit."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from probam.cli.arguments import check_apart, table_of
from probam.cli.console import Bar, interruptible
from probam.cli.program import DATA, FitFile, Variable, api_ready, app, fit_and_table
from probam.errors import InputError

if TYPE_CHECKING:
    pass

__all__ = ["complete", "predict", "recall", "report"]


@app.command(
    epilog="Examples:\n\n  probam recall fit.nc cues.csv -o recalled.csv\n\n"
    "  probam recall fit.nc cues.csv --step 0.1 --max-steps 5000 -o recalled.nc\n\n"
    "The output has the recalled point in the data's own columns, then steps, residual, energy, converged and basin."
)
def recall(
    fit_file: FitFile,
    queries: Annotated[str, typer.Argument(metavar="QUERIES", help=f"Where recall starts. {DATA}", show_default=False)],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="OUT", help="Where to write (.csv, .parquet, .npz or .nc).")
    ],
    step: Annotated[
        float, typer.Option(help="Step size in (0, 2): 1 jumps to the mean of the memories, smaller follows the flow.")
    ] = 1.0,
    max_steps: Annotated[
        int, typer.Option(min=1, help="A query that has not settled after so many steps is given up.")
    ] = 1000,
    variable: Variable = None,
) -> None:
    """Let every query run downhill on the energy, and write where it comes to rest."""
    from probam.data.writing import TABLE_SUFFIXES, check_writable, write_dataset

    check_writable(output, suffixes=TABLE_SUFFIXES)
    check_apart(output, fit_file, queries)
    fitted, table = fit_and_table(fit_file, queries, variable)
    with Bar("recalling"):
        found = interruptible(lambda: fitted.recall(table, step=step, max_steps=max_steps))
    write_dataset(found, output, plain="state")
    settled, total = int(found["converged"].sum()), table.num_data
    basins = len(set(found["basin"].values[found["converged"].values].tolist()))
    print(f"{settled} of {total} queries settled, in {basins} basins, after at most {int(found['steps'].max())} steps")
    if settled < total:
        print(f"{total - settled} did not settle within {max_steps} steps; raise --max-steps")
    print(f"wrote {output}")


@app.command(
    epilog="Examples:\n\n  probam predict fit.nc new.csv -o labels.csv\n\n"
    "  probam predict fit.nc new.csv --probabilities -o labels.parquet"
)
def predict(
    fit_file: FitFile,
    data: Annotated[str, typer.Argument(metavar="DATA", help=DATA, show_default=False)],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="OUT", help="Where to write (.csv, .parquet, .npz or .nc).")
    ],
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Write the probability of every memory too, one column each.")
    ] = False,
    variable: Variable = None,
) -> None:
    """Say of every datum which memory it belongs to, how sure that is, and its log density."""
    from probam.data.writing import TABLE_SUFFIXES, check_writable, write_dataset

    check_writable(output, suffixes=TABLE_SUFFIXES)
    check_apart(output, fit_file, data)
    fitted, table = fit_and_table(fit_file, data, variable)
    with Bar("predicting"):
        found = interruptible(lambda: fitted.predict(table))
    write_dataset(found if probabilities else found.drop_vars(["responsibilities", "memory"]), output)
    labels = len(set(found["label"].values.tolist()))
    doubtful = int((found["confidence"] < 0.5).sum())
    print(f"{table.num_data} data in {labels} memories, {doubtful} of them with no memory above one half")
    print(f"mean log density {float(found['log_density'].mean()):.4f} nats")
    print(f"wrote {output}")


@app.command(
    epilog="Examples:\n\n  probam complete fit.nc gaps.csv -o whole.csv\n\n"
    "  probam complete fit.nc gaps.csv --by descent --spread -o whole.parquet\n\n"
    "The conditional mean is the guess of least expected squared error; descent is what the memory recalls with the "
    "known entries held."
)
def complete(
    fit_file: FitFile,
    data: Annotated[str, typer.Argument(metavar="DATA", help=f"Rows with missing entries. {DATA}", show_default=False)],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="OUT", help="Where to write (.csv, .parquet, .npz or .nc).")
    ],
    by: Annotated[str, typer.Option(help="mean (what is expected given the known entries) or descent.")] = "mean",
    spread: Annotated[
        bool, typer.Option("--spread", help="Write the standard deviation of every entry too (0 where it was known).")
    ] = False,
    variable: Variable = None,
) -> None:
    """Fill missing entries from what the fit has learned."""
    from probam.data.writing import TABLE_SUFFIXES, check_writable, write_dataset

    if by not in ("mean", "descent"):
        raise InputError(f"--by: expected mean or descent; got {by!r}")
    check_writable(output, suffixes=TABLE_SUFFIXES)
    check_apart(output, fit_file, data)
    fitted = api_ready().load(fit_file)
    table = table_of(data, None, variable, prefer=[str(name) for name in fitted.columns], missing=True)
    with Bar("completing"):
        found = interruptible(lambda: fitted.complete(table))
    value, sd = ("conditional_mean", "conditional_sd") if by == "mean" else ("descent", "descent_sd")
    kept = found[[value, sd] if spread else [value]].rename({value: "x"} | ({sd: "sd"} if spread else {}))
    write_dataset(kept, output, plain="x")
    gone = found["missing"].values
    print(f"{int(gone.sum())} missing entries in {int(gone.any(axis=1).sum())} of {len(gone)} rows filled")
    print(f"wrote {output}")


@app.command(epilog="Example:\n\n  probam report fit.nc -o report.html")
def report(
    fit_file: FitFile,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="REPORT.html", help="Where to write; beside the fit unless given."),
    ] = None,
) -> None:
    """Write one HTML file, readable without a network, that tells a person what was found and whether to trust it."""
    from probam.data.writing import check_writable

    target = fit_file.with_suffix(".html") if output is None else output
    check_writable(target, suffixes=(".html", ".htm"))
    fitted = api_ready().load(fit_file)
    with Bar("writing the report"):
        fitted.report(target)
    print(f"wrote {target}")
