"""Commands that question a saved fit."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from probam.cli.arguments import check_apart, check_output, labels_of_fitted
from probam.cli.console import Bar, interruptible
from probam.cli.program import (
    DATA,
    FIT,
    Drop,
    FitFile,
    Json,
    Labels,
    Normalise,
    OwnFamily,
    TableOutput,
    Variable,
    api_ready,
    app,
    fit_and_rows,
    fit_and_table,
    fits_by_name,
)
from probam.cli.results import agreement_text, tell, write_result, wrote
from probam.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr

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
    output: TableOutput,
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
    as_json: Json = False,
) -> None:
    """Descend the energy from every query, and write where each one ends."""
    from probam.data.writing import TABLE_SUFFIXES

    _check_annealed(annealed, noise, step, seed)
    check_output(output, TABLE_SUFFIXES, as_json=as_json)
    check_apart(output, fit_file, queries)
    fitted, table = fit_and_table(
        fit_file, queries, drop=drop, variable=variable, normalise=normalise, family=family, missing=True
    )
    if annealed is not None and noise is not None:
        record = _anneal(fitted, table, output, noise=noise, by=annealed, num_steps=max_steps, seed=seed)
        text = "{num_queries} queries annealed from a noise of {noise:g}, to {num_memories} memories".format(**record)
        tell(text, record, as_json=as_json, output=output)
        return
    with Bar("recalling"):
        recalled = interruptible(lambda: fitted.recall(table, step=step, max_steps=max_steps))
    write_result(recalled, output, plain="state")
    record, text = _told_of_recall(recalled, max_steps)
    tell(text, record, as_json=as_json, output=output)


def _told_of_recall(recalled: "xr.Dataset", max_steps: int) -> tuple[dict[str, Any], str]:
    """Recall in numbers and in words."""
    converged = recalled["converged"].values
    record = {
        "num_queries": len(converged),
        "num_converged": int(converged.sum()),
        "num_basins": len(set(recalled["basin"].values[converged].tolist())),
        "most_steps": int(recalled["steps"].max()),
    }
    told = (
        "{num_converged} of {num_queries} queries converged, to {num_basins} basins, after at most {most_steps} steps"
    )
    text = told.format(**record)
    if not converged.all():
        text += f"\n{(~converged).sum()} did not converge within {max_steps} steps; raise --max-steps"
    return record, text


def _anneal(fitted: "Fit", table: "Table", output: Path, *, noise: float, **how: Any) -> dict[str, Any]:
    """Annealed recall, written; what is said of it."""
    with Bar("annealing"):
        ends = interruptible(lambda: fitted.anneal(table, noise, **how))
    write_result(ends, output, plain="state")
    memories = len(set(ends["basin"].values.tolist()))
    return {"num_queries": table.num_data, "noise": noise, "num_memories": memories}


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
    output: TableOutput,
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
    as_json: Json = False,
) -> None:
    """Draw new data from a fit."""
    import xarray as xr

    from probam.data.writing import TABLE_SUFFIXES

    if by not in ("draws", "ode", "sde"):
        raise InputError(f"--by: expected draws, ode or sde; got {by!r}")
    check_output(output, TABLE_SUFFIXES, as_json=as_json)
    check_apart(output, fit_file)
    fitted = api_ready().load(fit_file, family=family)
    with Bar("drawing"):
        rows = interruptible(lambda: fitted.sample(num_data, seed=seed, by=by))
    drawn = xr.Dataset({"x": (("datum", "feature"), rows)}, coords={"feature": list(fitted.columns)})
    write_result(drawn, output, plain="x")
    text = f"{num_data} rows of {len(fitted.columns)} features drawn"
    tell(text, {"num_data": num_data, "columns": fitted.columns}, as_json=as_json, output=output)


_SHOWN_ABOVE = 0.01
"""Memories of which no row has a larger responsibility get no column of their own."""


@app.command(
    epilog="Examples:\n\n  probam predict fit.nc new.csv -o labels.csv\n\n"
    "  probam predict fit.nc new.csv --probabilities --with-inputs -o labels.parquet\n\n"
    "  probam predict fit.nc test.csv --labels species -o labels.csv\n\n"
    "  cut -d, -f2- new.csv | probam predict fit.nc - -o - | head\n\n"
    "The columns are the name of the row (a column of DATA that names the rows, otherwise `row`, its number), label, "
    "confidence, log_density and confidence_sd. With r_s the responsibility of the label's memory in draw s of the "
    "posterior, confidence is its mean over the draws, and confidence_sd = sqrt(mean_s (r_s - confidence)^2) says how "
    "uncertain the confidence itself is. A point estimate (em, gradient_em, clam) has no draws and no confidence_sd."
)
def predict(
    fit_file: FitFile,
    data: Annotated[str, typer.Argument(metavar="DATA", help=DATA, show_default=False)],
    output: TableOutput,
    probabilities: Annotated[
        bool,
        typer.Option(
            "--probabilities",
            help="Also write the probability of each memory: a column for each that some row belongs to with more than "
            "--above, and `other`, the sum of the rest.",
        ),
    ] = False,
    above: Annotated[
        float | None,
        typer.Option(metavar="P", help=f"Which memories have a column ({_SHOWN_ABOVE} by default)."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Write the probability of every memory, however small.")
    ] = False,
    with_inputs: Annotated[
        bool, typer.Option("--with-inputs", help="Also write all columns of DATA, those with text included.")
    ] = False,
    id_column: Annotated[
        str | None,
        typer.Option(
            "--id",
            metavar="COLUMN",
            help="The column of DATA that names the rows. Without it, the first that is no feature and has another "
            "text or whole number in every row.",
        ),
    ] = None,
    labels: Labels = None,
    drop: Drop = None,
    normalise: Normalise = False,
    variable: Variable = None,
    family: OwnFamily = None,
    as_json: Json = False,
) -> None:
    """Write the memory of every row, how sure that is, and the log density of the row."""
    from probam.cli.predicted import predicted_table
    from probam.data.writing import TABLE_SUFFIXES
    from probam.reports.summaries.estimate import bounds_memories

    least = _least_shown(above, everything=everything)
    check_output(output, TABLE_SUFFIXES, as_json=as_json)
    check_apart(output, fit_file, data)
    fitted, rows = fit_and_rows(
        fit_file, data, labels, drop=drop, variable=variable, normalise=normalise, family=family, missing=True
    )
    each, has_draws = probabilities or everything or above is not None, len(fitted.group("memory")["permutation"]) > 1
    with Bar("predicting"):
        predicted = interruptible(lambda: fitted.predict(rows.table, probabilities=each, spread=has_draws))
    shown = predicted_table(predicted, rows, above=least, column=id_column, with_inputs=with_inputs)
    write_result(shown, output)
    record, text = _told_of(predicted, rows.labels, is_bound=bounds_memories(fitted.tree))
    tell(text, record, as_json=as_json, output=output)


def _least_shown(above: float | None, *, everything: bool) -> float:
    """The responsibility above which a memory has a column; below 0 where all have one."""
    if everything and above is not None:
        raise InputError("--all, --above: give at most one of them")
    if above is not None and not 0 <= above < 1:
        raise InputError(f"--above: expected a number of at least 0 and below 1; got {above:g}")
    return -1.0 if everything else _SHOWN_ABOVE if above is None else above


def _told_of(predicted: "xr.Dataset", known: "np.ndarray | None", *, is_bound: bool) -> tuple[dict[str, Any], str]:
    """A prediction in numbers and in words; the number of memories may be an upper bound."""
    record: dict[str, Any] = {
        "num_data": predicted.sizes["datum"],
        "num_memories": len(set(predicted["label"].values.tolist())),
        "is_upper_bound": is_bound,
        "num_below_half": int((predicted["confidence"] < 0.5).sum()),
        "mean_log_density": float(predicted["log_density"].mean()),
    }
    text = (
        "{num_data} data in {at_most}{num_memories} memories, {num_below_half} of them with a confidence below one "
        "half\nmean log density {mean_log_density:.4f} nats"
    ).format(at_most="at most " if is_bound else "", **record)
    if known is None:
        return record, text
    from probam.reports.summaries.contingency import agreement

    found = agreement(known, predicted["label"].values)
    return record | {"agreement": found._asdict()}, f"{text}\n{agreement_text(found)}"


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
    output: TableOutput,
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
    as_json: Json = False,
) -> None:
    """Fill in missing entries, given the known entries of their row."""
    from probam.data.writing import TABLE_SUFFIXES

    if by not in ("mean", "descent"):
        raise InputError(f"--by: expected mean or descent; got {by!r}")
    levels = _levels(quantiles)
    check_output(output, TABLE_SUFFIXES, as_json=as_json)
    check_apart(output, fit_file, data)
    fitted, table = fit_and_table(fit_file, data, drop=drop, variable=variable, family=family, missing=True)
    with Bar("completing"):
        completed = interruptible(lambda: fitted.complete(table, descent=by == "descent"))
        missing = completed["missing"].values
        told = interruptible(lambda: _told(fitted, table, levels, draws, seed)) if missing.any() else {}
    value, sd = ("conditional_mean", "conditional_sd") if by == "mean" else ("descent", "descent_sd")
    columns = completed[[value, sd] if spread else [value]].rename({value: "x"} | ({sd: "sd"} if spread else {}))
    write_result(columns.assign({name: ("datum", values) for name, values in told.items()}), output, plain="x")
    record = {
        "num_missing": int(missing.sum()),
        "num_rows_with_gaps": int(missing.any(axis=1).sum()),
        "num_data": len(missing),
    }
    text = "{num_missing} missing entries in {num_rows_with_gaps} of {num_data} rows filled".format(**record)
    tell(text, record, as_json=as_json, output=output)


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
    as_json: Json = False,
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
    wrote(target, as_json=as_json)


@app.command(
    epilog="Examples:\n\n  probam export fit.nc -o parameters.json\n\n"
    "  probam export fit.nc --draw 10 -o parameters.npz\n\n"
    "  probam export fit.nc -o model.py\n\n"
    "The file has weights, means, covariances (of Gaussian memories, in the data's units) and the values of all sites "
    "(in the units of the model: (x - center) / scale), so that other programs can use the mixture. A .py file is the "
    "model with its priors as a NumPyro program that does not need probam."
)
def export(
    fit_file: FitFile,
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            metavar="OUT",
            help="Where to write (.json: lists, .npz: arrays, .py: the model as a NumPyro program).",
        ),
    ],
    draw: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Number of a draw; by default the one of highest posterior density."),
    ] = None,
    family: OwnFamily = None,
    as_json: Json = False,
) -> None:
    """Write the numbers of the mixture for other programs, or the model as a NumPyro program."""
    from probam.data.writing import check_writable, write_atomically
    from probam.fits.parameters import SUFFIXES

    check_writable(output, suffixes=(*SUFFIXES, ".py"))
    check_apart(output, fit_file)
    fitted = api_ready().load(fit_file, family=family)
    family_name, num_memories = fitted.model.family.signature, fitted.model.num_components
    if output.suffix.lower() != ".py":
        fitted.parameters(draw=draw).save(output)
    elif draw is not None:
        raise InputError("--draw: a program has no numbers of a draw; leave it out, or write .json or .npz")
    else:
        program = fitted.to_numpyro()
        with write_atomically(output) as temporary:
            temporary.write_text(program, encoding="utf-8")
    record = {"family": family_name, "num_memories": num_memories, "columns": fitted.columns}
    text = f"{num_memories} memories of family {family_name!r}, {len(fitted.columns)} features"
    tell(text, record, as_json=as_json, output=output)
