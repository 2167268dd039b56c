"""An analysis from one file: ``probam run`` fits, verifies and reports, ``probam init`` writes a file to begin with."""

import contextlib
import inspect
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from probam.cli.analysis_file import Key, Keys, keys_of, steps_of, template
from probam.cli.console import Interrupted
from probam.cli.court import verify
from probam.cli.fitting import fit
from probam.cli.predicted import predict
from probam.cli.program import Json, api_ready, app
from probam.cli.queries import report
from probam.cli.results import print_json, wrote
from probam.errors import InputError

__all__ = ["init", "run"]

_COMMANDS: Mapping[str, Callable[..., Any]] = {"fit": fit, "verify": verify, "predict": predict, "report": report}
"""The commands that a file can have, in the order in which they run."""

_ALWAYS = ("fit", "verify", "report")
"""Those that run where the file does not name them."""

_GIVEN = ("fit_file", "fit_files", "as_json")
"""Parameters that ``run`` gives."""

_BEGIN: Mapping[str, Mapping[str, Any]] = {
    "fit": {"data": "faithful", "output": "fit.nc"},
    "verify": {},
    "report": {"output": "report.html"},
}
"""What a new file sets."""


class _Call(NamedTuple):
    """A command with the values of all its parameters but those in ``_GIVEN``."""

    command: str
    values: dict[str, Any]


@app.command(
    epilog="Examples:\n\n  probam init\n\n  probam run analysis.toml\n\n  probam run analysis.toml --json\n\n"
    "The commands run in the order fit, verify, predict, report and print what they print alone. predict runs where "
    "the file has a table for it; `verify = false` and `report = false` leave these out. The fit keeps "
    "the text of the file in the attribute `analysis`.\n\n"
    'An analysis is your own word, as a script is: the file of code that `family = "FILE.py:NAME"` names is executed. '
    "Read an analysis that somebody else wrote before you run it.\n\n"
    "Exit code: 0, or that of a command that failed."
)
def run(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="ANALYSIS.toml", help="The file, as `probam init` writes one to begin with.", show_default=False
        ),
    ],
    as_json: Json = False,
) -> None:
    """Fit, verify and report in one go, as a file says."""
    text = _text_of(file)
    calls = _calls(text, file)
    _check_files(calls)
    saved, code = calls[0].values["output"], 0
    records: dict[str, Any] = {}
    for call in calls:
        given = {"as_json": as_json, "fit_file": saved, "fit_files": [saved]}
        with contextlib.redirect_stdout(io.StringIO()) if as_json else contextlib.nullcontext() as printed:
            code = max(code, _code_of(call, given))
        if printed is not None:
            records[call.command] = json.loads(printed.getvalue())
        if call.command == "fit":
            _keep_text(saved, text)
    if as_json:
        print_json(records)
    raise typer.Exit(code)


def _text_of(file: Path) -> str:
    """The text of the file."""
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: it is not UTF-8 text; expected a file in TOML") from error
    except OSError as error:
        hint = "; `probam init` writes one" if isinstance(error, FileNotFoundError) else ""
        raise InputError(f"{file}: it cannot be read ({error.strerror}){hint}") from error


def _calls(text: str, file: Path) -> list[_Call]:
    """The commands that the file asks for, the fit first."""
    commands = _keys()
    steps = steps_of(text, commands, str(file))
    if steps.get("fit") is None:
        raise InputError(f"{file}: fit: this table is missing; write [fit] with the key data")
    asked = [name for name in _COMMANDS if (steps[name] is not None if name in steps else name in _ALWAYS)]
    calls = [_Call(name, _values(commands[name], steps.get(name) or {}, file.parent)) for name in asked]
    fitted = calls[0].values
    for call in calls[1:]:
        call.values["family"] = fitted["family"] if ":" in fitted["family"] else None
        if call.command == "report" and call.values["labels"] is None and fitted["data"] != "-":
            call.values["labels"] = fitted["labels"]  # standard input is not there a second time
    return calls


def _keys() -> dict[str, Keys]:
    """The keys of each command; the family is that of the fit."""
    return {
        name: keys_of(command, without=_GIVEN if name == "fit" else (*_GIVEN, "family"))
        for name, command in _COMMANDS.items()
    }


def _values(keys: Keys, given: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Values of all parameters: those of the file and the defaults; paths start at the folder of the file."""
    values = {key.parameter: given.get(key.parameter, key.default) for key in keys.values()}
    return {key.parameter: _located(key, values[key.parameter], folder) for key in keys.values()}


def _located(key: Key, value: Any, folder: Path) -> Any:
    """A path from the folder of the file on; other values as they are."""
    if isinstance(value, Path):
        return value if str(value) == "-" else folder / value
    if key.parameter == "data" and ((folder / value).exists() or Path(value).suffix):
        return str(folder / value)
    if key.parameter in ("family", "labels") and value and (folder / value.partition(":")[0]).is_file():  # FILE:NAME
        return str(folder / value)
    return value


def _check_files(calls: list[_Call]) -> None:
    """Refuse data that are not there and outputs that cannot be written before anything is computed."""
    from probam.data.reading import check_file
    from probam.data.writing import TABLE_SUFFIXES, check_writable

    pages = (".html", ".htm")
    suffixes = {"fit": (".nc",), "verify": pages, "predict": TABLE_SUFFIXES, "report": pages}
    for command, values in calls:
        if Path(values.get("data") or "").suffix:
            check_file(values["data"])
        for name in ("output", "html"):
            if values.get(name) is not None and str(values[name]) != "-":
                check_writable(values[name], suffixes=suffixes[command])


def _code_of(call: _Call, given: Mapping[str, Any]) -> int:
    """Run a command; its exit code."""
    function = _COMMANDS[call.command]
    known = inspect.signature(function).parameters
    try:
        function(**call.values, **{name: value for name, value in given.items() if name in known})
    except typer.Exit as ended:
        return ended.exit_code
    except Interrupted as interruption:
        if call.command == "fit":
            raise
        raise Interrupted(f"{given['fit_file']} holds the fit; {call.command} wrote nothing") from interruption
    return 0


def _keep_text(fit_file: Path, text: str) -> None:
    """Write the text of the analysis into its fit."""
    api_ready()
    from probam.reports.tree import read_tree, write_tree

    tree = read_tree(fit_file)
    tree.attrs["analysis"] = text
    write_tree(tree, fit_file)


@app.command(epilog="Examples:\n\n  probam init\n\n  probam init galaxies.toml")
def init(
    file: Annotated[Path, typer.Argument(metavar="[ANALYSIS.toml]", help="The file to write.")] = Path("analysis.toml"),
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
    as_json: Json = False,
) -> None:
    """Write a commented file for `probam run`, with every option of fit, verify, predict and report."""
    from probam.data.writing import check_writable, write_atomically

    check_writable(file, suffixes=(".toml",))
    if file.exists() and not force:
        raise InputError(f"{file}: this file exists; give another name, or --force to replace it")
    with write_atomically(file) as temporary:
        temporary.write_text(template(_keys(), _BEGIN), encoding="utf-8")
    wrote(file, as_json=as_json)
    if not as_json:
        print('edit `data` below [fit]: it is the shipped set "faithful" until you name a file of your own')
        print(f"next: probam run {file}")
