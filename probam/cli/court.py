"""Commands that verify claims and run experiments."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from probam.cli.console import Bar, interruptible, show
from probam.cli.program import Json, OwnFamily, api_ready, app
from probam.cli.results import checks_text, print_json

if TYPE_CHECKING:
    from probam.claims.claim import Certificate
    from probam.equivalence.check import Check
    from probam.experiments.experiment import Experiment

__all__ = ["experiment", "verify"]


@app.command(
    epilog="Examples:\n\n  probam verify fit.nc\n\n  probam verify\n\n  probam verify --claim A16 --claim A2 --json\n\n"
    "  probam verify fit.nc --court --html court.html\n\n"
    "FIT.nc alone takes seconds, the claims about a minute. --claim, --all and --html speak of claims: with a fit they "
    "check those claims too.\n\n"
    "Exit code 1: a statement failed, a printed form that should fail did not, or a claim raised an exception."
)
def verify(
    fit_file: Annotated[
        Path | None,
        typer.Argument(metavar="FIT.nc", help="Verify this saved fit, and not the claims.", show_default=False),
    ] = None,
    court: Annotated[bool, typer.Option("--court", help="Check the claims too, where a fit is given.")] = False,
    claim: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID",
            help="Only this claim (A3.weighted) or entry (A3: all its parts); may be given more than once.",
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also the statistical and long claims. They state their error rates.")
    ] = False,
    float32: Annotated[
        bool, typer.Option("--float32", help="Compute in single precision, on ordinary inputs.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the random inputs.")] = 0,
    html: Annotated[
        Path | None,
        typer.Option(metavar="PAGE.html", help="Also write a page with the equations.", show_default=False),
    ] = None,
    family: OwnFamily = None,
    as_json: Json = False,
) -> None:
    """Check numerically that energies are negative log likelihoods: at a saved fit, or claim by claim without one."""
    api = api_ready()
    from probam.claims.verify import as_json as json_of_claims
    from probam.claims.verify import certify_each
    from probam.data.writing import check_writable
    from probam.reports.court import write_court

    if html is not None:  # before the minute of work, not after it
        check_writable(html, suffixes=(".html", ".htm"))
    fit = None if fit_file is None else api.load(fit_file, family=family)
    with_claims = fit is None or court or everything or bool(claim) or html is not None

    def run() -> tuple[list["Certificate"], list["Check"]]:
        each = certify_each(claim, seed=seed, slow=everything, single=float32) if with_claims else ()
        return _collected(each, bar), [] if fit is None else fit.verify(seed=seed)

    with Bar("verifying") as bar:
        certificates, checks = interruptible(run)
    record = json_of_claims(certificates, single=float32)
    passed = record["passed"] and all(check.passed for check in checks)
    if html is not None:
        write_court(record, html)
    if as_json:
        print_json(record | {"fit": [check._asdict() for check in checks], "passed": passed})
    else:
        if with_claims:
            _print_certificates(certificates, single=float32, count_entries=not claim)
        if html is not None:
            print(f"the page with the equations: {html}")
        if fit_file is not None:
            print(checks_text(checks, fit_file))
    raise typer.Exit(0 if passed else 1)


def _collected(each: Iterable[tuple[int, "Certificate"]], bar: Bar) -> list["Certificate"]:
    """The certificates, which come with the number of those still to come."""
    from probam.inference.common.progress import Progress

    certificates = []
    for left, certificate in each:
        certificates.append(certificate)
        bar(Progress(len(certificates), len(certificates) + left, certificate.claim))
    return certificates


def _print_certificates(certificates: list["Certificate"], *, single: bool, count_entries: bool) -> None:
    """Table and summary of the certificates and, where all claims were run, how many entries have a claim."""
    from probam.claims.entries import ENTRIES, missing
    from probam.claims.verify import legend, summary, table

    show(table(certificates))
    print(f"\n{legend(certificates)}\n")
    print(summary(certificates, single=single))
    if count_entries:
        pending = missing()
        print(f"{len(ENTRIES) - len(pending)} of {len(ENTRIES)} entries of the list have a claim")
        for entry, why in pending.items():
            print(f"  pending: {entry}, {ENTRIES[entry]} ({why})")


@app.command(
    epilog="Examples:\n\n  probam experiment\n\n  probam experiment xor\n\n"
    "  probam experiment capacity --full --seed 3 -o out\n\n"
    "A run writes NAME.nc (all numbers), the figures as PNG, findings and tables as CSV, and index.html (what agrees "
    "with the paper) to DIR/NAME. The experiment transformer goes on from where it was interrupted."
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
            help="A folder of more data sets, each as NAME/data.npz, for the experiments that use such sets "
            "(`probam experiment --list --json` says which); without it, the shipped sets only.",
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="Results go to a folder NAME in here.")
    ] = Path("out"),
    as_json: Json = False,
) -> None:
    """Run an experiment of the papers, or list them: numbers, figures and a page on what agrees and what does not."""
    api_ready()
    from probam.experiments.experiment import CHECKPOINTS, experiments, find, perform, prepared, write

    if name is None or listed:
        _list_experiments(experiments(), as_json=as_json)
        return
    chosen = find(name)
    with prepared(chosen, output) as place, Bar(chosen.title) as bar:
        keep = place / CHECKPOINTS
        tree = interruptible(lambda: perform(chosen, seed, full=full, data=data, progress=bar, keep=keep))
    paths = write(chosen, tree, output)
    findings = chosen.findings(tree)
    if as_json:
        record = {"findings": [finding.record() for finding in findings], "wrote": [str(path) for path in paths]}
        print_json(record)
        return
    for finding in findings:
        print(f"{finding.verdict:<11}{finding.text}")
    print("\n".join(f"wrote {path}" for path in paths))


def _list_experiments(known: Mapping[str, "Experiment"], *, as_json: bool) -> None:
    """Names and titles of the experiments."""
    if as_json:
        listing = [
            {"name": one.name, "title": one.title, "source": one.source, "data": one.data} for one in known.values()
        ]
        print_json(listing)
        return
    width = max(map(len, known), default=0)
    for one in known.values():
        print(f"{one.name:<{width}}  {one.title}")
    print("\nprobam experiment NAME runs one")
