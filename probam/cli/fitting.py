"""Commands that make a fit."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from probam.cli.arguments import check_apart, engine_option, number, table_of
from probam.cli.console import Bar, fit_json, fit_text, interruptible
from probam.cli.program import DATA, Columns, FitOutput, Json, Variable, api_ready, app

if TYPE_CHECKING:
    pass

__all__ = ["fit"]


@app.command(
    epilog="Examples:\n\n"
    "  probam fit faithful -o fit.nc\n\n"
    "  probam fit table.csv --columns height,weight --standardise -o fit.nc\n\n"
    "  probam fit letter20k --weights pyp --engine svi --covariance diagonal --components 60 -o letters.nc\n\n"
    "  probam fit household_directions --family vmf --weights dirichlet --components 2 --engine em -o spending.nc"
)
def fit(
    data: Annotated[str, typer.Argument(metavar="DATA", help=DATA, show_default=False)],
    output: FitOutput = Path("fit.nc"),
    family: Annotated[
        str,
        typer.Option(
            help="What a memory is: gaussian (points of space), vmf (directions: rows of length one), another of the "
            "known families (laplace, student_t, generalized_normal, bernoulli, ...; options follow the name, as in "
            "student_t,df=4), or a family of your own as FILE.py:Name or package.module:Name.",
            rich_help_panel="Model",
        ),
    ] = "gaussian",
    covariance: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="Shape of a Gaussian memory: isotropic (one width for all: the energy of the associative memory), "
            "spherical (a width each), diagonal (a width for each column), tied (one tilted ellipse for all), full "
            "(tilted ellipses).",
            rich_help_panel="Model",
        ),
    ] = None,
    weights: Annotated[
        str,
        typer.Option(
            metavar="LAW",
            help="How popular memories may be: dp and pyp let the data choose how many are used (pyp keeps more small "
            "ones); dirichlet, uniform and fixed use exactly --components of them.",
            rich_help_panel="Model",
        ),
    ] = "dp",
    given: Annotated[
        str | None,
        typer.Option(
            "--given-weights", metavar="W,W,...", help="The numbers of --weights fixed.", rich_help_panel="Model"
        ),
    ] = None,
    components: Annotated[
        int | None,
        typer.Option(
            metavar="K",
            help="Number of memories; for dp and pyp the most there can be (20 unless said), larger is slower and "
            "closer to the infinite process.",
            rich_help_panel="Model",
        ),
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(
            metavar="A",
            help="Larger expects more memories in use. Learned from the data unless given.",
            rich_help_panel="Model",
        ),
    ] = None,
    discount: Annotated[
        float | None,
        typer.Option(
            metavar="D",
            help="Of pyp, in [0, 1): nearer 1 expects a longer tail of small memories.",
            rich_help_panel="Model",
        ),
    ] = None,
    engine: Annotated[
        str,
        typer.Option(
            help="nuts, gibbs and smc sample the posterior (slow, honest; smc also finds the evidence); svi and cavi "
            "approximate it (fast, too sure of themselves); em and gradient_em find one best setting (fastest, no "
            "error bars), clam the memories of least recall error.",
            rich_help_panel="Engine",
        ),
    ] = "nuts",
    seed: Annotated[
        int, typer.Option(help="The same seed gives the same fit on the same machine.", rich_help_panel="Engine")
    ] = 0,
    standardise: Annotated[
        bool,
        typer.Option(
            "--standardise",
            help="Fit (x - mean) / sd, for columns in different units; results stay in data units.",
            rich_help_panel="Data",
        ),
    ] = False,
    missing: Annotated[
        bool,
        typer.Option(
            "--missing",
            help="Allow missing entries; a row counts with its other entries (gaussian, bernoulli; not clam).",
            rich_help_panel="Data",
        ),
    ] = False,
    sample_weight: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN", help="A column that says how often each row counts (em).", rich_help_panel="Data"
        ),
    ] = None,
    columns: Columns = None,
    variable: Variable = None,
    num_warmup: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="nuts: steps of each chain that adapt the sampler and are dropped.",
            rich_help_panel="Engine",
        ),
    ] = None,
    num_draws: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="nuts, gibbs (each chain), svi, cavi: draws kept; more make errors smaller.",
            rich_help_panel="Engine",
        ),
    ] = None,
    num_chains: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="nuts, gibbs, smc: chains; with one alone nothing shows whether it converged.",
            rich_help_panel="Engine",
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.npz",
            help="nuts: write the chains here after every 100 steps; the same command goes on from it, in the same "
            "bits, also with more --num-draws.",
            rich_help_panel="Engine",
        ),
    ] = None,
    num_steps: Annotated[
        int | None, typer.Option(metavar="N", help="svi: optimisation steps.", rich_help_panel="Engine")
    ] = None,
    restarts: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="em, gradient_em, svi, cavi: independent starts, the best is kept; more miss less.",
            rich_help_panel="Engine",
        ),
    ] = None,
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
    """Fit a memory to DATA, save its posterior and say what was found."""
    from probam.data.table import check_rows
    from probam.data.writing import check_writable

    check_writable(output, suffixes=(".nc",))
    check_apart(output, data)
    chosen_columns = columns if columns is None or sample_weight is None else [*columns, sample_weight]
    table = table_of(data, chosen_columns, variable, missing=missing)
    counts = None
    if sample_weight is not None:
        counts = table.select([sample_weight]).values[:, 0]
        table = table.select([name for name in table.columns if name != sample_weight])
    check_rows(table)
    chosen: dict[str, Any] = {
        name: value
        for name, value in (
            ("num_warmup", num_warmup),
            ("num_draws", num_draws),
            ("num_chains", num_chains),
            ("checkpoint", None if checkpoint is None else str(checkpoint)),
            ("num_steps", num_steps),
            ("restarts", restarts),
        )
        if value is not None
    } | dict(map(engine_option, option or []))
    given_weights = None if given is None else [number("given-weights", word) for word in given.split(",")]
    api = api_ready(float32=float32)
    with Bar("fitting") as bar:
        fitted = interruptible(
            lambda: api.fit(
                table.astype("float32") if float32 else table,
                family=family,
                covariance=covariance,
                weights=weights,
                given_weights=given_weights,
                components=components,
                alpha=alpha,
                discount=discount,
                engine=engine,
                seed=seed,
                standardise=standardise,
                missing=missing,
                sample_weight=counts,
                progress=bar,
                **chosen,
            )
        )
    fitted.save(output)
    if as_json:
        print(fit_json(fitted, output))
    else:
        print(fit_text(fitted, output))
