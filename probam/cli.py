"""The command line: fit, verify, recall, predict, report, data, experiment.

Heavy imports stand inside the commands, so that ``--help`` is quick. Results go to stdout, everything else to
stderr. Exit codes: 0 done; 1 an exact statement failed, or a defect of probam; 2 the input cannot be used; 130
interrupted.
"""

import errno
import json
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.main

from probam.arguments import check_apart, engine_option, number, table_of
from probam.compiled import keep_compiled
from probam.console import Bar, abandoned, checks_text, fit_json, fit_text, interruptible, say, show
from probam.errors import InputError, ProbamError

if TYPE_CHECKING:
    from probam.data.table import Table
    from probam.equivalence.claim import Certificate
    from probam.equivalence.fitted import Check
    from probam.fitted import Fit

__all__ = ["app", "main"]

_USAGE = typer.BadParameter.__bases__[0]
"""What the option parser raises (its own module is private in some releases of typer)."""

app = typer.Typer(
    name="probam",
    help="Fit memories to data, verify that their energy is the likelihood, report how sure they are.",
    epilog="A first session:\n\n"
    "  probam fit faithful -o fit.nc\n\n"
    "  probam report fit.nc -o report.html\n\n"
    "  probam predict fit.nc new.csv -o labels.csv\n\n"
    "probam COMMAND --help explains a command. DATA is a CSV, TSV, Parquet, NPY, NPZ or NetCDF file, or the name of a "
    "set that `probam data` lists. Compiled programs are kept in the user's cache folder, or where the "
    "variable PROBAM_COMPILED names (`off`: nowhere).",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_DATA = "A file (.csv, .tsv, .parquet, .npy, .npz, .nc; FILE.npz:KEY for one array of several) or a shipped set's name."
_FIT = "A saved fit, as written by `probam fit`."
_FitFile = Annotated[Path, typer.Argument(metavar="FIT.nc", help=_FIT, show_default=False)]
_Columns = Annotated[
    list[str] | None,
    typer.Option(
        metavar="A,B,...",
        help="Use only these columns, in this order; the others may hold text.",
        rich_help_panel="Data",
    ),
]
_Variable = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Which array of an NPZ or NetCDF file to use.", rich_help_panel="Data"),
]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines instead of text for people.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        python = ".".join(map(str, sys.version_info[:3]))
        print(f"probam {version('probam')} (Python {python}, jax {version('jax')}, numpyro {version('numpyro')})")
        raise typer.Exit


@app.callback()
def _global(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Say the version and stop.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="On an error print the whole traceback (may stand after the command too).")
    ] = False,
) -> None:
    """Fit memories to data, verify that their energy is the likelihood, report how sure they are."""
    # --version acts in its callback, --debug in main()


@app.command(
    epilog="Examples:\n\n"
    "  probam fit faithful -o fit.nc\n\n"
    "  probam fit table.csv --columns height,weight --standardise -o fit.nc\n\n"
    "  probam fit letter20k --weights pyp --engine svi --covariance diagonal --components 60 -o letters.nc\n\n"
    "  probam fit household_directions --family vmf --weights dirichlet --components 2 --engine em -o spending.nc"
)
def fit(
    data: Annotated[str, typer.Argument(metavar="DATA", help=_DATA, show_default=False)],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FIT.nc", help="Where to save the fit (NetCDF).")
    ] = Path("fit.nc"),
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
            "spherical (a width each), diagonal (a width for each column), full (tilted ellipses).",
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
            help="nuts and gibbs sample the posterior (slow, honest); svi approximates it (fast, too sure of itself); "
            "em and gradient_em find one best setting (fastest, no error bars).",
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
    columns: _Columns = None,
    variable: _Variable = None,
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
            metavar="N", help="nuts (each chain), svi: draws kept; more make errors smaller.", rich_help_panel="Engine"
        ),
    ] = None,
    num_chains: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="nuts: chains; with one alone nothing shows whether it converged.",
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
            help="em, gradient_em, svi: independent starts, the best is kept; more miss less.",
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
    as_json: _Json = False,
) -> None:
    """Fit a memory to DATA, save its posterior and say what was found."""
    from probam.data.table import check_rows
    from probam.data.writing import check_writable

    check_writable(output, suffixes=(".nc",))
    check_apart(output, data)
    table = table_of(data, columns, variable)
    check_rows(table)
    chosen: dict[str, Any] = {
        name: value
        for name, value in (
            ("num_warmup", num_warmup),
            ("num_draws", num_draws),
            ("num_chains", num_chains),
            ("num_steps", num_steps),
            ("restarts", restarts),
        )
        if value is not None
    } | dict(map(engine_option, option or []))
    given_weights = None if given is None else [number("given-weights", word) for word in given.split(",")]
    api = _api(float32=float32)
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
                progress=bar,
                **chosen,
            )
        )
    fitted.save(output)
    if as_json:
        print(fit_json(fitted, output))
    else:
        print(fit_text(fitted, output))


@app.command(
    epilog="Examples:\n\n  probam verify\n\n  probam verify --claim A16 --claim A2 --json\n\n  probam verify fit.nc\n\n"
    "Exit code 1 means that an exact statement failed."
)
def verify(
    fit_file: Annotated[
        Path | None, typer.Argument(metavar="FIT.nc", help="Also verify this saved fit.", show_default=False)
    ] = None,
    claim: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID", help="Only this claim, or all whose id begins so (A16); may be given more than once."
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also the statistical and long claims, which state their error rates.")
    ] = False,
    float32: Annotated[
        bool, typer.Option("--float32", help="Compute both sides in single precision, on ordinary inputs.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Other seeds draw other random inputs.")] = 0,
    html: Annotated[
        Path | None,
        typer.Option(metavar="PAGE.html", help="Also write a page with the equations.", show_default=False),
    ] = None,
    as_json: _Json = False,
) -> None:
    """Check claim by claim that each energy is the likelihood that it is said to be, with numbers."""
    api = _api()
    from probam.data.writing import check_writable
    from probam.equivalence.entries import ENTRIES, missing
    from probam.equivalence.verify import as_json as court_json
    from probam.equivalence.verify import certify_each, summary, table
    from probam.reports.court import write_court

    if html is not None:  # before the minute of work, not after it
        check_writable(html, suffixes=(".html", ".htm"))

    fitted = None if fit_file is None else api.load(fit_file)

    def run() -> tuple[list["Certificate"], list["Check"]]:
        certificates = []
        for left, certificate in certify_each(claim, seed=seed, slow=everything, single=float32):
            certificates.append(certificate)
            bar(len(certificates), len(certificates) + left, certificate.claim)
        return certificates, [] if fitted is None else fitted.verify()

    with Bar("verifying") as bar:
        certificates, checks = interruptible(run)
    passed = all(found.passed for found in certificates) and all(check.passed for check in checks)
    if html is not None:
        write_court(court_json(certificates, single=float32), html)
    if as_json:
        told = court_json(certificates, single=float32)
        print(json.dumps(told | {"fit": [check._asdict() for check in checks], "passed": passed}, indent=2))
    else:
        show(table(certificates))
        print(summary(certificates, single=float32))
        if not claim:
            pending = missing()
            print(f"{len(ENTRIES) - len(pending)} of {len(ENTRIES)} entries of the list are answered for")
            for entry, why in pending.items():
                print(f"  pending: {entry}, {ENTRIES[entry]} ({why})")
        if html is not None:
            print(f"the page with the equations: {html}")
        if fit_file is not None:
            print(checks_text(checks, fit_file))
    raise typer.Exit(0 if passed else 1)


@app.command(
    epilog="Examples:\n\n  probam recall fit.nc cues.csv -o recalled.csv\n\n"
    "  probam recall fit.nc cues.csv --step 0.1 --max-steps 5000 -o recalled.nc\n\n"
    "The output has the recalled point in the data's own columns, then steps, residual, energy, converged and basin."
)
def recall(
    fit_file: _FitFile,
    queries: Annotated[
        str, typer.Argument(metavar="QUERIES", help=f"Where recall starts. {_DATA}", show_default=False)
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="OUT", help="Where to write (.csv, .parquet, .npz or .nc).")
    ],
    step: Annotated[
        float, typer.Option(help="Step size in (0, 2): 1 jumps to the mean of the memories, smaller follows the flow.")
    ] = 1.0,
    max_steps: Annotated[
        int, typer.Option(min=1, help="A query that has not settled after so many steps is given up.")
    ] = 1000,
    variable: _Variable = None,
) -> None:
    """Let every query run downhill on the energy, and write where it comes to rest."""
    from probam.data.writing import TABLE_SUFFIXES, check_writable, write_dataset

    check_writable(output, suffixes=TABLE_SUFFIXES)
    check_apart(output, fit_file, queries)
    fitted, table = _fit_and_table(fit_file, queries, variable)
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
    fit_file: _FitFile,
    data: Annotated[str, typer.Argument(metavar="DATA", help=_DATA, show_default=False)],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="OUT", help="Where to write (.csv, .parquet, .npz or .nc).")
    ],
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Write the probability of every memory too, one column each.")
    ] = False,
    variable: _Variable = None,
) -> None:
    """Say of every datum which memory it belongs to, how sure that is, and its log density."""
    from probam.data.writing import TABLE_SUFFIXES, check_writable, write_dataset

    check_writable(output, suffixes=TABLE_SUFFIXES)
    check_apart(output, fit_file, data)
    fitted, table = _fit_and_table(fit_file, data, variable)
    with Bar("predicting"):
        found = interruptible(lambda: fitted.predict(table))
    write_dataset(found if probabilities else found.drop_vars(["responsibilities", "memory"]), output)
    labels = len(set(found["label"].values.tolist()))
    doubtful = int((found["confidence"] < 0.5).sum())
    print(f"{table.num_data} data in {labels} memories, {doubtful} of them with no memory above one half")
    print(f"mean log density {float(found['log_density'].mean()):.4f} nats")
    print(f"wrote {output}")


@app.command(epilog="Example:\n\n  probam report fit.nc -o report.html")
def report(
    fit_file: _FitFile,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="REPORT.html", help="Where to write; beside the fit unless given."),
    ] = None,
) -> None:
    """Write one HTML file, readable without a network, that tells a person what was found and whether to trust it."""
    from probam.data.writing import check_writable

    target = fit_file.with_suffix(".html") if output is None else output
    check_writable(target, suffixes=(".html", ".htm"))
    fitted = _api().load(fit_file)
    with Bar("writing the report"):
        fitted.report(target)
    print(f"wrote {target}")


@app.command(epilog="Examples:\n\n  probam data\n\n  probam data comets\n\n  probam data iris --labels -o iris.csv")
def data(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="The set to tell of, or to write.", show_default=False)
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Write the set here (.csv, .tsv, .parquet, .npz or .nc)."),
    ] = None,
    labels: Annotated[
        bool, typer.Option("--labels", help="Write the known classes as a last column (leave it out of a fit).")
    ] = False,
    as_json: _Json = False,
) -> None:
    """List the real data sets that travel with probam, tell where one comes from, or write it to a file."""
    from probam.data.shipped import load_labels, load_shipped, provenance, shipped
    from probam.data.writing import write_table

    if name is None:
        if output is not None:
            raise InputError("NAME: expected the name of a set to write; `probam data` lists them")
        records = shipped()
        if as_json:
            keys = ("name", "shape", "licence", "summary", "source", "classes", "sha256")
            print(json.dumps([{key: getattr(record, key) for key in keys} for record in records], indent=2))
            return
        width = max(len(record.name) for record in records)
        for record in records:
            size = " x ".join(map(str, record.shape))
            print(f"{record.name:<{width}}  {size:>11}  {record.licence:<19}  {record.summary}")
        print("\nprobam data NAME tells more, probam data NAME -o FILE.csv writes it, probam fit NAME fits it")
        return
    table = load_shipped(name)
    known = load_labels(name) if labels else None
    if output is None:
        print(provenance(name).strip())
        return
    write_table(table, output, labels=known)
    print(f"wrote {table.num_data} rows, {table.num_features} columns to {output}")


@app.command(
    epilog="Examples:\n\n  probam experiment\n\n  probam experiment xor\n\n"
    "  probam experiment capacity --full --seed 3 -o out\n\n"
    "A run writes NAME.nc (all numbers), the figures as PNG, and index.html (what agrees with the paper) to DIR/NAME."
)
def experiment(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="The experiment to run.", show_default=False)
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="List the experiments and stop.")] = False,
    full: Annotated[
        bool, typer.Option("--full", help="The paper's size: minutes to hours instead of seconds.")
    ] = False,
    seed: Annotated[int, typer.Option(help="The same seed gives the same numbers on the same machine.")] = 0,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="A folder of more data sets, each as NAME/data.npz; without it, the shipped sets only.",
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="Results go to a folder NAME in here.")
    ] = Path("out"),
    as_json: _Json = False,
) -> None:
    """Run an experiment of the papers, or list them: numbers, figures and a page on what agrees and what does not."""
    _api()
    from probam.experiments.experiment import experiments, find, perform, prepare, write

    if name is None or listed:
        known = experiments()
        if as_json:
            listing = [{"name": one.name, "title": one.title, "source": one.source} for one in known.values()]
            print(json.dumps(listing, indent=2))
            return
        width = max(map(len, known), default=0)
        for one in known.values():
            print(f"{one.name:<{width}}  {one.title}")
        print("\nprobam experiment NAME runs one")
        return
    chosen = find(name)
    prepare(chosen, output)
    with Bar(chosen.title) as bar:
        tree = interruptible(lambda: perform(chosen, seed, full=full, data=data, progress=bar))
    paths = write(chosen, tree, output)
    findings = chosen.findings(tree)
    if as_json:
        told = {"findings": [finding._asdict() for finding in findings], "wrote": [str(path) for path in paths]}
        print(json.dumps(told, indent=2))
        return
    for finding in findings:
        print(f"{finding.verdict:<8}{finding.text}")
    print("\n".join(f"wrote {path}" for path in paths))


# --- entering ------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; every error is one line on stderr."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    end = words.index("--") if "--" in words else len(words)
    debug = "--debug" in words[:end]
    words = [word for word in words[:end] if word != "--debug"] + words[end:]
    hook = sys.unraisablehook
    if not debug:  # libraries drop a half-opened file noisily after they have said what is wrong with it
        sys.unraisablehook = lambda _: None
    try:
        code = typer.main.get_command(app).main(args=words, prog_name="probam", standalone_mode=False)
        sys.stdout.flush()
        if code == 130:  # typer has seen Ctrl-C
            raise KeyboardInterrupt
        return code if isinstance(code, int) else 0
    except (KeyboardInterrupt, typer.Abort):
        say("interrupted; nothing was written")
        if abandoned():
            sys.stdout.flush()
            os._exit(130)
        return 130
    except BrokenPipeError:  # the reader of our output went away
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        if debug:
            traceback.print_exc()
        return _failed(error, debug)
    finally:
        sys.unraisablehook = hook


def _failed(error: Exception, debug: bool) -> int:
    """Say in one line what went wrong; the exit code that goes with it."""
    if isinstance(error, _USAGE):
        context = getattr(error, "ctx", None)
        place = context.command_path if context is not None else "probam"
        text = error.format_message().rstrip(".")  # type: ignore[attr-defined]
        if type(error).__name__ == "NoArgsIsHelpError":  # its message is the help itself
            print(text, file=sys.stderr)
        else:
            say(f"{text}; try: {place} --help")
        return 2
    if isinstance(error, ProbamError):
        say(str(error))
        return 2
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        say("there is not enough memory; use fewer memories, draws or chains, svi with batch_size, or --float32")
        return 2
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        say(f"the output cannot be written ({error.strerror})")
        return 2
    hint = "" if debug else "; run again with --debug to see where"
    say(f"{type(error).__name__}: {error}; this is a defect of probam{hint}")
    return 1


def _api(*, float32: bool = False) -> Any:
    """The façade, after the process was set up for numerical work: its own to set up, since it is the program."""
    if "jax" not in sys.modules:
        flag = "--xla_force_host_platform_device_count"
        flags = os.environ.get("XLA_FLAGS", "")
        if flag not in flags:
            cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
            os.environ["XLA_FLAGS"] = f"{flags} {flag}={cores}".strip()
    import jax

    jax.config.update("jax_enable_x64", not float32)
    keep_compiled()
    import probam.api

    return probam.api


def _fit_and_table(fit_file: Path, data: str, variable: str | None) -> tuple["Fit", "Table"]:
    """A saved fit, and data with the columns that it knows, where they are there."""
    fitted = _api().load(fit_file)
    return fitted, table_of(data, None, variable, prefer=[str(name) for name in fitted.columns])


if __name__ == "__main__":
    sys.exit(main())
