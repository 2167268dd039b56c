"""Commands that question a saved fit."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from probam.cli.arguments import check_apart, check_output, labels_of_fitted
from probam.cli.asking import Asked, IdColumn, ask, with_names
from probam.cli.console import Bar, interruptible
from probam.cli.program import (
    DATA,
    FIT,
    Drop,
    FitFile,
    Json,
    Normalise,
    OwnFamily,
    TableOutput,
    Variable,
    api_ready,
    app,
    fits_by_name,
)
from probam.cli.results import result_writer, tell, write_result, wrote
from probam.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

    from probam.data.table import Table

__all__ = ["complete", "export", "recall", "report", "sample"]

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
    "The output has the column that names the rows, where there is one, the recalled point in the data's own columns, "
    "then steps, residual, energy, converged and basin; of annealed recall energy, basin and responsible (the memory "
    "of the noisy query)."
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
    id_column: IdColumn = None,
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
    reading: dict[str, Any] = {"drop": drop, "variable": variable, "normalise": normalise, "missing": True}
    asked = ask(fit_file, queries, column=id_column, family=family, **reading)
    if annealed is not None and noise is not None:
        record = _anneal(asked, output, noise=noise, by=annealed, num_steps=max_steps, seed=seed)
        text = "{num_queries} queries annealed from a noise of {noise:g}, to {num_memories} memories".format(**record)
        tell(text, record, as_json=as_json, output=output)
        return
    column, ends = asked.names(), []
    parts = asked.answers("recalling", lambda rows: asked.fitted.recall_blocks(rows, step=step, max_steps=max_steps))
    with result_writer(output, plain="state") as write:
        for rows, recalled in parts:
            write(with_names(recalled, rows, column))
            ends.append(_Ends.of(recalled))
    record, text = _told_of_recall(ends, max_steps)
    tell(text, record, as_json=as_json, output=output)


class _Ends(NamedTuple):
    """What is said of the ends of some queries."""

    num_queries: int
    num_converged: int
    basins: set[int]
    most_steps: int

    @classmethod
    def of(cls, recalled: "xr.Dataset") -> "_Ends":
        converged = recalled["converged"].values
        basins = set(recalled["basin"].values[converged].tolist())
        return cls(len(converged), int(converged.sum()), basins, int(recalled["steps"].max()))


def _told_of_recall(ends: list[_Ends], max_steps: int) -> tuple[dict[str, Any], str]:
    """Recall in numbers and in words."""
    record = {
        "num_queries": sum(each.num_queries for each in ends),
        "num_converged": sum(each.num_converged for each in ends),
        "num_basins": len(set().union(*(each.basins for each in ends))),
        "most_steps": max(each.most_steps for each in ends),
    }
    told = (
        "{num_converged} of {num_queries} queries converged, to {num_basins} basins, after at most {most_steps} steps"
    )
    text = told.format(**record)
    lacking = record["num_queries"] - record["num_converged"]
    if lacking:
        text += f"\n{lacking} did not converge within {max_steps} steps; raise --max-steps"
    return record, text


def _anneal(asked: Asked, output: Path, *, noise: float, **how: Any) -> dict[str, Any]:
    """Annealed recall, written; what is said of it."""
    column, memories, num_queries = asked.names(), set[int](), 0
    with result_writer(output, plain="state") as write:
        for rows, ends in asked.answers("annealing", lambda rows: asked.fitted.anneal_blocks(rows, noise, **how)):
            write(with_names(ends, rows, column))
            memories |= set(ends["basin"].values.tolist())
            num_queries += rows.table.num_data
    return {"num_queries": num_queries, "noise": noise, "num_memories": len(memories)}


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
    id_column: IdColumn = None,
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
    asked = ask(fit_file, data, column=id_column, drop=drop, variable=variable, family=family, missing=True)
    column, told = asked.names(), _Told(asked, levels, draws, seed)
    value, sd = ("conditional_mean", "conditional_sd") if by == "mean" else ("descent", "descent_sd")
    titles = {value: "x"} | ({sd: "sd"} if spread else {})
    record = {"num_missing": 0, "num_rows_with_gaps": 0, "num_data": 0}
    parts = asked.answers("completing", lambda rows: asked.fitted.complete_blocks(rows, descent=by == "descent"))
    with result_writer(output, plain="x") as write:
        for rows, completed in parts:
            answer = completed[list(titles)].rename(titles)
            write(with_names(answer.assign(told.of(rows.table)), rows, column))
            missing = completed["missing"].values
            record["num_missing"] += int(missing.sum())
            record["num_rows_with_gaps"] += int(missing.any(axis=1).sum())
            record["num_data"] += len(missing)
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


class _Told:
    """Quantiles and draws of missing entries, as columns for each feature that has gaps in some row."""

    def __init__(self, asked: Asked, levels: list[float], draws: int, seed: int) -> None:
        """What is asked for.

        Args:
            asked: the fit and its rows, which are read once to know which features have gaps.
            levels: of the quantiles.
            draws: how many.
            seed: of the draws.
        """
        self._fitted, self._levels, self._draws, self._seed = asked.fitted, levels, draws, seed
        self._features = asked.features_with_gaps() if levels or draws else {}

    def of(self, table: "Table") -> dict[str, Any]:
        """The columns for some rows: name -> dimension and values."""
        if not self._features:
            return {}
        known = {name: table.values[:, at] for feature, at in self._features.items() for name in self._names(feature)}
        told = interruptible(lambda: self._of_gaps(table)) if table.has_gaps else {}
        return {name: ("datum", values) for name, values in (known | told).items()}

    def _names(self, feature: str) -> list[str]:
        quantiles = [f"{feature}_q{level:g}" for level in self._levels]
        return quantiles + [f"{feature}_draw{i}" for i in range(self._draws)]

    def _of_gaps(self, table: "Table") -> dict[str, Any]:
        law = self._fitted.conditional(None, table, num_draws=50)  # as many as `complete` has
        quantiles = law.quantile(self._levels).values if self._levels else ()
        drawn = law.sample(self._draws, seed=self._seed).values if self._draws else ()
        rows = [*quantiles, *drawn]  # each (N, T)
        return {
            name: values[:, place]
            for place, feature in enumerate(law.question.target)
            for name, values in zip(self._names(feature), rows, strict=True)
        }


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
