"""Commands that question a saved fit."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from probam.cli.arguments import check_apart, labels_of_fitted
from probam.cli.console import Bar, agreement_text, interruptible
from probam.cli.program import (
    DATA,
    FIT,
    Drop,
    FitFile,
    Labels,
    Normalise,
    OwnFamily,
    Variable,
    api_ready,
    app,
    fit_and_labelled_table,
    fit_and_table,
    fits_by_name,
)
from probam.errors import InputError

if TYPE_CHECKING:
    from probam.data.table import Table
    from probam.fits.fitted import Fit

__all__ = ["complete", "export", "predict", "recall", "report", "sample"]

_Noise = Annotated[
    float | None,
    typer.Option(
        metavar="SD",
        help="Of --annealed: standard deviation of the noise, in the units of the data (of a fit with --standardise: "
        "in standard deviations of each column).",
    ),
]


@app.command(
    epilog="Examples:\n\n  probam recall fit.nc cues.csv -o recalled.csv\n\n"
    "  probam recall fit.nc cues.csv --step 0.1 --max-steps 5000 -o recalled.nc\n\n"
    "  probam recall fit.nc noisy.csv --annealed sde --noise 0.5 -o clean.csv\n\n"
    "The output has the recalled point in the data's own columns, then steps, residual, energy, converged and basin; "
    "of annealed recall energy, basin and responsible (the memory of the noisy query)."
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
        int,
        typer.Option(
            min=1,
            help="Most steps of a query; one that has not converged by then is reported as such. Of --annealed the "
            "number of noise levels.",
        ),
    ] = 1000,
    annealed: Annotated[
        str | None,
        typer.Option(
            metavar="ode|sde",
            help="The queries are data with noise, which is taken away level by level: by the probability flow (ode) "
            "or by the reverse diffusion (sde), whose ends are draws of the clean datum.",
        ),
    ] = None,
    noise: _Noise = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of --annealed sde.")] = 0,
    drop: Drop = None,
    normalise: Normalise = False,
    variable: Variable = None,
    family: OwnFamily = None,
) -> None:
    """Descend the energy from every query, and write where each one ends."""
    from probam.data.writing import TABLE_SUFFIXES, check_writable, write_dataset

    _check_annealed(annealed, noise, step, seed)
    check_writable(output, suffixes=TABLE_SUFFIXES)
    check_apart(output, fit_file, queries)
    fitted, table = fit_and_table(
        fit_file, queries, drop=drop, variable=variable, normalise=normalise, family=family, missing=True
    )
    if annealed is not None and noise is not None:
        _anneal(fitted, table, output, noise=noise, by=annealed, num_steps=max_steps, seed=seed)
        return
    with Bar("recalling"):
        recalled = interruptible(lambda: fitted.recall(table, step=step, max_steps=max_steps))
    write_dataset(recalled, output, plain="state")
    converged = recalled["converged"].values
    count, total, steps = int(converged.sum()), table.num_data, int(recalled["steps"].max())
    basins = len(set(recalled["basin"].values[converged].tolist()))
    print(f"{count} of {total} queries converged, to {basins} basins, after at most {steps} steps")
    if count < total:
        print(f"{total - count} did not converge within {max_steps} steps; raise --max-steps")
    print(f"wrote {output}")


def _anneal(fitted: "Fit", table: "Table", output: Path, *, noise: float, **how: Any) -> None:
    """Annealed recall, written and told."""
    from probam.data.writing import write_dataset

    with Bar("annealing"):
        ends = interruptible(lambda: fitted.anneal(table, noise, **how))
    write_dataset(ends, output, plain="state")
    memories = len(set(ends["basin"].values.tolist()))
    print(f"{table.num_data} queries annealed from a noise of {noise:g}, to {memories} memories")
    print(f"wrote {output}")


def _check_annealed(annealed: str | None, noise: float | None, step: float, seed: int) -> None:
    """The options of recall go together."""
    if annealed is None and (noise is not None or seed):
        raise InputError("--noise and --seed belong to annealed recall; add --annealed ode or --annealed sde")
    if annealed is None:
        return
    if annealed not in ("ode", "sde"):
        raise InputError(f"--annealed: expected ode or sde; got {annealed!r}")
    if noise is None:
        raise InputError("--annealed: say how noisy the queries are: --noise SD, the standard deviation of the noise")
    if step != 1.0:
        raise InputError("--step: annealed recall steps from one noise to the next; use --max-steps for finer ones")


@app.command(
    epilog="Examples:\n\n  probam sample fit.nc 1000 -o new.csv\n\n  probam sample fit.nc 1000 --by sde -o new.csv\n\n"
    "Rows are drawn from the posterior predictive, each from one draw of the posterior."
)
def sample(
    fit_file: FitFile,
    num_data: Annotated[int, typer.Argument(metavar="N", min=1, help="How many rows.", show_default=False)],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="OUT", help="Where to write (.csv, .parquet, .npz or .nc).")
    ],
    by: Annotated[
        str,
        typer.Option(
            metavar="draws|ode|sde",
            help="draws (a memory, then a datum of it), or annealed recall from pure noise: ode (probability flow) or "
            "sde (reverse diffusion). All have the same law.",
        ),
    ] = "draws",
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="The same seed gives the same bits.")] = 0,
    family: OwnFamily = None,
) -> None:
    """Draw new data from a fit."""
    import xarray as xr

    from probam.data.writing import TABLE_SUFFIXES, check_writable, write_dataset

    if by not in ("draws", "ode", "sde"):
        raise InputError(f"--by: expected draws, ode or sde; got {by!r}")
    check_writable(output, suffixes=TABLE_SUFFIXES)
    check_apart(output, fit_file)
    fitted = api_ready().load(fit_file, family=family)
    with Bar("drawing"):
        rows = interruptible(lambda: fitted.sample(num_data, seed=seed, by=by))
    drawn = xr.Dataset({"x": (("datum", "feature"), rows)}, coords={"feature": list(fitted.columns)})
    write_dataset(drawn, output, plain="x")
    print(f"{num_data} rows of {len(fitted.columns)} features drawn\nwrote {output}")


@app.command(
    epilog="Examples:\n\n  probam predict fit.nc new.csv -o labels.csv\n\n"
    "  probam predict fit.nc new.csv --probabilities -o labels.parquet\n\n"
    "  probam predict fit.nc test.csv --labels species -o labels.csv"
)
def predict(
    fit_file: FitFile,
    data: Annotated[str, typer.Argument(metavar="DATA", help=DATA, show_default=False)],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="OUT", help="Where to write (.csv, .parquet, .npz or .nc).")
    ],
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Also write the probability of every memory, one column each.")
    ] = False,
    labels: Labels = None,
    drop: Drop = None,
    normalise: Normalise = False,
    variable: Variable = None,
    family: OwnFamily = None,
) -> None:
    """Write the memory of every datum, the probability of that memory and the log density of the datum."""
    from probam.data.writing import TABLE_SUFFIXES, check_writable, write_dataset
    from probam.reports.summaries.estimate import bounds_memories

    check_writable(output, suffixes=TABLE_SUFFIXES)
    check_apart(output, fit_file, data)
    fitted, table, known = fit_and_labelled_table(
        fit_file, data, labels, drop=drop, variable=variable, normalise=normalise, family=family, missing=True
    )
    with Bar("predicting"):
        predicted = interruptible(lambda: fitted.predict(table, probabilities=probabilities))
    write_dataset(predicted, output)
    memories = len(set(predicted["label"].values.tolist()))
    doubtful = int((predicted["confidence"] < 0.5).sum())
    at_most = "at most " if bounds_memories(fitted.tree) else ""
    print(f"{table.num_data} data in {at_most}{memories} memories, {doubtful} of them with a confidence below one half")
    print(f"mean log density {float(predicted['log_density'].mean()):.4f} nats")
    if known is not None:
        from probam.reports.summaries.contingency import agreement

        print(agreement_text(agreement(known, predicted["label"].values)))
    print(f"wrote {output}")


@app.command(
    epilog="Examples:\n\n  probam complete fit.nc gaps.csv -o whole.csv\n\n"
    "  probam complete fit.nc gaps.csv --by descent --spread -o whole.parquet\n\n"
    "  probam complete fit.nc gaps.csv --quantiles 0.05,0.5,0.95 --draws 20 -o imputed.csv\n\n"
    "The conditional mean has the least expected squared error; descent is what the memory recalls while the known "
    "entries are fixed. For each column y with gaps --quantiles adds y_q0.05, y_q0.5, ... and --draws adds y_draw0, "
    "y_draw1, ...; entries that are known stay what they are there."
)
def complete(
    fit_file: FitFile,
    data: Annotated[str, typer.Argument(metavar="DATA", help=f"Rows with missing entries. {DATA}", show_default=False)],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="OUT", help="Where to write (.csv, .parquet, .npz or .nc).")
    ],
    by: Annotated[
        str,
        typer.Option(help="mean (conditional on the known entries) or descent (recall with the known entries fixed)."),
    ] = "mean",
    spread: Annotated[
        bool, typer.Option("--spread", help="Also write the standard deviation of every entry (0 where it is known).")
    ] = False,
    quantiles: Annotated[
        str | None,
        typer.Option(
            metavar="Q,Q,...", help="Also write these quantiles of every missing entry (0.05,0.95: where 90 % lie)."
        ),
    ] = None,
    draws: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Also write N draws of the missing entries, those of a row drawn together (multiple imputation).",
        ),
    ] = 0,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of --draws: the same seed gives the same bits.")] = 0,
    drop: Drop = None,
    variable: Variable = None,
    family: OwnFamily = None,
) -> None:
    """Fill in missing entries, given the known entries of their row."""
    from probam.data.writing import TABLE_SUFFIXES, check_writable, write_dataset

    if by not in ("mean", "descent"):
        raise InputError(f"--by: expected mean or descent; got {by!r}")
    levels = _levels(quantiles)
    check_writable(output, suffixes=TABLE_SUFFIXES)
    check_apart(output, fit_file, data)
    fitted, table = fit_and_table(fit_file, data, drop=drop, variable=variable, family=family, missing=True)
    with Bar("completing"):
        completed = interruptible(lambda: fitted.complete(table, descent=by == "descent"))
        missing = completed["missing"].values
        told = interruptible(lambda: _told(fitted, table, levels, draws, seed)) if missing.any() else {}
    value, sd = ("conditional_mean", "conditional_sd") if by == "mean" else ("descent", "descent_sd")
    columns = completed[[value, sd] if spread else [value]].rename({value: "x"} | ({sd: "sd"} if spread else {}))
    write_dataset(columns.assign({name: ("datum", values) for name, values in told.items()}), output, plain="x")
    print(f"{int(missing.sum())} missing entries in {int(missing.any(axis=1).sum())} of {len(missing)} rows filled")
    print(f"wrote {output}")


def _levels(quantiles: str | None) -> list[float]:
    """Probabilities between 0 and 1, separated by commas."""
    try:
        levels = [float(word) for word in quantiles.split(",")] if quantiles is not None else []
    except ValueError:
        levels = [-1.0]
    if not all(0 < level < 1 for level in levels):
        raise InputError(f"--quantiles: expected numbers between 0 and 1, separated by commas; got {quantiles!r}")
    return levels


def _told(fitted: "Fit", table: "Table", levels: list[float], draws: int, seed: int) -> dict[str, Any]:
    """Columns of quantiles and of draws for each feature with gaps: name -> values."""
    columns: dict[str, Any] = {}
    if not levels and not draws:
        return columns
    law = fitted.conditional(None, table, num_draws=50)  # as many as `complete` has
    if levels:
        found = law.quantile(levels)
        for name in law.question.target:
            of = found.sel(feature=name)
            columns |= {f"{name}_q{level:g}": of[i].values for i, level in enumerate(levels)}
    if draws:
        drawn = law.sample(draws, seed=seed)
        for name in law.question.target:
            columns |= {f"{name}_draw{i}": row.values for i, row in enumerate(drawn.sel(feature=name))}
    return columns


@app.command(
    epilog="Examples:\n\n  probam report fit.nc -o report.html\n\n"
    "  probam report fit.nc --labels species\n\n"
    "  probam report em.nc nuts.nc -o both.html"
)
def report(
    fit_files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FIT.nc...", help=f"{FIT} Several fits of the same data are compared.", show_default=False
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="REPORT.html",
            help="Where to write; by default beside the fit, of several fits comparison.html beside the first.",
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN|FILE",
            help="Known labels of the fitted rows: a column of the file that was fitted (of a shipped set: label), "
            "FILE:COLUMN, or a CSV file whose last column they are. The page then says how well the memories agree "
            "with them.",
        ),
    ] = None,
    family: OwnFamily = None,
) -> None:
    """Write a self-contained HTML page: what the fit found and whether to trust it, or how several fits compare."""
    from probam.data.writing import check_writable

    first, *others = fit_files
    usual = first.with_name("comparison.html") if others else first.with_suffix(".html")
    target = usual if output is None else output
    check_writable(target, suffixes=(".html", ".htm"))
    fits = fits_by_name(fit_files, family) if others else {first.stem: api_ready().load(first, family=family)}
    source = str(next(iter(fits.values())).tree.attrs.get("source", ""))
    known = None if labels is None else labels_of_fitted(labels, source)
    with Bar("writing the report"):
        if others:
            from probam.comparison.page import compare_report

            compare_report(fits, target, labels=known)
        else:
            fits[first.stem].report(target, labels=known)
    print(f"wrote {target}")


@app.command(
    epilog="Examples:\n\n  probam export fit.nc -o parameters.json\n\n"
    "  probam export fit.nc --draw 10 -o parameters.npz\n\n"
    "The file has weights, means, covariances (of Gaussian memories, in the data's units) and the values of all sites "
    "(in the units of the model: (x - center) / scale), so that other programs can use the mixture."
)
def export(
    fit_file: FitFile,
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="OUT", help="Where to write (.json: lists, or .npz: arrays)."),
    ],
    draw: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Number of a draw; by default the one of highest posterior density."),
    ] = None,
    family: OwnFamily = None,
) -> None:
    """Write the numbers of the mixture for other programs."""
    from probam.data.writing import check_writable
    from probam.fits.parameters import SUFFIXES

    check_writable(output, suffixes=SUFFIXES)
    check_apart(output, fit_file)
    parameters = api_ready().load(fit_file, family=family).parameters(draw=draw)
    parameters.save(output)
    print(f"{len(parameters.weights)} memories of family {parameters.family!r}, {len(parameters.columns)} features")
    print(f"wrote {output}")
