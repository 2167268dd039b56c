"""What the commands share: the program, their common arguments, and the set-up for numerical work."""

import functools
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typer.core import TyperGroup

from probam.cli.flags import flag
from probam.compiled import keep_compiled
from probam.errors import InputError
from probam.fits.options import FitOptions

if TYPE_CHECKING:
    from probam.fits.fitted import Fit

__all__ = [
    "DATA",
    "EXIT_CODES",
    "FIT",
    "QUIET",
    "Columns",
    "Commands",
    "Drop",
    "FitFile",
    "FitOutput",
    "Json",
    "Labels",
    "Normalise",
    "OwnFamily",
    "TableOutput",
    "Variable",
    "api_ready",
    "app",
    "choose_device",
    "fits_by_name",
]

_ORDER = (
    "init",
    "run",
    "fit",
    "stream",
    "verify",
    "recall",
    "predict",
    "complete",
    "sample",
    "memory",
    "report",
    "export",
    "compare",
    "data",
    "prior",
    "experiment",
)
"""The order in which the commands are listed."""


EXIT_CODES = {
    0: "done",
    1: "a check or a claim failed, or probam has a defect",
    2: "the input cannot be used, or the computation cannot be carried out; the message says what to do",
    130: "interrupted by Ctrl-C",
    141: "the reader of the output went away, as `head` does",
    143: "terminated by SIGTERM",
}
"""What the exit codes of the command line mean."""

QUIET = "No progress bar and no advice on standard error; errors stay"


Quiet = Annotated[bool, typer.Option("--quiet", help=f"{QUIET}.")]


_Command = TypeVar("_Command", bound=Callable[..., Any])


class Commands(typer.Typer):
    """Commands that all have ``--quiet``. What it does is done in :func:`probam.cli.main.main`, before they run."""

    def command(self, name: str | None = None, **options: Any) -> Callable[[_Command], _Command]:
        """As ``Typer.command``; the function itself has no ``quiet``."""
        register = super().command(name, **options)

        def decorate(function: _Command) -> _Command:
            @functools.wraps(function)
            def run(*, quiet: bool = False, **values: Any) -> Any:
                del quiet
                return function(**values)

            declared = inspect.Parameter("quiet", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Quiet)
            own = [
                each.replace(kind=declared.kind)
                for each in inspect.signature(function, eval_str=True).parameters.values()
            ]
            run.__signature__ = inspect.Signature([*own, declared])  # type: ignore[attr-defined]
            run.__annotations__ = {each.name: each.annotation for each in (*own, declared)}
            register(run)
            return function

        return decorate


class _InOrder(TyperGroup):
    """Lists the commands in the order of use, not of import."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=_ORDER.index)


app = Commands(
    name="probam",
    cls=_InOrder,
    help="Fit memories to data, verify that their energy is the likelihood, and report the uncertainty.",
    epilog="A first session:\n\n"
    "  probam fit faithful -o fit.nc\n\n"
    "  probam report fit.nc -o report.html\n\n"
    "  probam predict fit.nc new.csv -o labels.csv\n\n"
    "probam COMMAND --help explains a command. DATA is a CSV, TSV, Parquet, NPY, NPZ, NetCDF or Zarr file, or the name "
    "of a set that `probam data` lists. Compiled programs are kept in the user's cache folder, or where the "
    "variable PROBAM_COMPILED names (`off`: nowhere).\n\n"
    f"Exit codes: {'; '.join(f'{code} {meaning}' for code, meaning in EXIT_CODES.items())}.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

DATA = (
    "A file (.csv, .tsv, .txt, .parquet, .npy, .npz, .nc, .zarr; FILE.npz:KEY for one array of several), - for CSV on "
    "standard input, or a shipped set's name."
)
FIT = "A saved fit, as written by `probam fit`."
FitFile = Annotated[Path, typer.Argument(metavar="FIT.nc", help=FIT, show_default=False)]
OwnFamily = Annotated[
    str | None,
    typer.Option(
        "--family",
        metavar="FILE.py:NAME",
        help="The family of your own that the fit was made with. The file is executed because you name it here.",
        show_default=False,
    ),
]
FitOutput = Annotated[Path, typer.Option("-o", "--output", metavar="FIT.nc", help="Where to save the fit (NetCDF).")]
TableOutput = Annotated[
    Path,
    typer.Option(
        "-o",
        "--output",
        metavar="OUT",
        help="Where to write (.csv, .tsv, .parquet, .npz or .nc); - writes CSV to standard output, and what is said of "
        "it to standard error.",
    ),
]
Columns = Annotated[list[str] | None, flag(FitOptions, "columns")]
Drop = Annotated[list[str] | None, flag(FitOptions, "drop")]
Normalise = Annotated[bool, typer.Option("--normalise", help="Divide each row by its length.", rich_help_panel="Data")]
Labels = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="Column of known labels (of a shipped set: label). It is not a feature; the output says how well the "
        "memories agree with it: adjusted Rand index and normalised mutual information.",
        rich_help_panel="Data",
    ),
]
Variable = Annotated[str | None, flag(FitOptions, "variable")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines instead of text for people.")]


_device: str | None = None
"""What ``--device`` of this run says."""


def choose_device(name: str | None) -> None:
    """Compute on the device of this name ("cpu" or "gpu"; None: what JAX finds) once JAX is set up.

    Raises :class:`probam.errors.InputError` for another name.
    """
    global _device
    if name not in (None, "cpu", "gpu"):
        raise InputError(f"--device: expected cpu or gpu; got {name!r}")
    _device = name


def api_ready(*, float32: bool = False, connect: Callable[[], None] | None = None) -> Any:
    """:mod:`probam.fits.fit`, after JAX was set up: device, precision, cores, compiled programs kept on disk.

    Args:
        float32: single precision.
        connect: called before JAX looks for devices.

    Raises :class:`probam.errors.InputError` where there is no device of the kind that was asked for.
    """
    if "jax" not in sys.modules:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # a slow compiler would say so, with a place in its source
        flag = "--xla_force_host_platform_device_count"
        flags = os.environ.get("XLA_FLAGS", "")
        if flag not in flags:
            cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
            os.environ["XLA_FLAGS"] = f"{flags} {flag}={cores}".strip()
    import jax

    if connect is not None:
        connect()
    if _device == "cpu":
        jax.config.update("jax_platforms", "cpu")
    elif _device == "gpu" and jax.default_backend() != "gpu":
        raise InputError(
            "--device: JAX finds no GPU; install the extra cuda (pip install 'probam[cuda]') on a machine with an "
            "NVIDIA GPU and its driver, or use --device cpu"
        )
    jax.config.update("jax_enable_x64", not float32)
    keep_compiled()
    import probam.fits.fit

    return probam.fits.fit


def fits_by_name(paths: Sequence[str | Path], family: str | None) -> dict[str, "Fit"]:
    """Saved fits by file name without its ending; by whole paths where two would be alike.

    Args:
        paths: the files, of which none is named twice.
        family: the family of the user's own that some of them were made with.
    """
    from probam.fits.choices import find_family

    if len(set(map(str, paths))) < len(paths):
        raise InputError("FIT.nc: the same fit is named twice; leave one out")
    api = api_ready()
    if family is not None:
        find_family(family)
    stems = [Path(path).stem for path in paths]
    names = stems if len(set(stems)) == len(stems) else [str(path) for path in paths]
    return {name: api.load(path) for name, path in zip(names, paths, strict=True)}
