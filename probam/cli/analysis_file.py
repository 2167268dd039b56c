"""The file of ``probam run``: a table of TOML for each command, with the command's options as keys.

The keys are read from the parameters of the commands, so that an option is declared once. :func:`steps_of` reads a
file, :func:`template` writes one with all keys, commented.
"""

import inspect
import json
import math
import textwrap
import tomllib
import types
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

from probam.errors import InputError

__all__ = ["Key", "Keys", "keys_of", "steps_of", "template"]

_WIDTH = 100
"""Columns of a line that :func:`template` writes."""


class Key(NamedTuple):
    """An option of a command as the file has it."""

    name: str
    """The flag without its dashes; of an argument its name."""
    parameter: str
    """Name of the parameter of the command's function."""
    kind: type
    """bool, int, float, str, Path, or list (of text)."""
    default: Any
    """What holds where the file does not say; ``inspect.Parameter.empty``: it must."""
    help: str
    metavar: str

    @property
    def is_required(self) -> bool:
        """Whether the file must have it."""
        return self.default is inspect.Parameter.empty

    @property
    def is_table(self) -> bool:
        """Whether it is a table of names and values (NAME=VALUE on the command line)."""
        return self.kind is list and "=" in self.metavar

    @property
    def is_joined(self) -> bool:
        """Whether a list of it is one word on the command line, separated by commas."""
        return self.kind is str and "," in self.metavar


Keys = Mapping[str, Key]
"""The keys of a command by name, in the order of its help."""


# --- keys -----------------------------------------------------------------------------------------------------


def keys_of(command: Callable[..., Any], *, without: tuple[str, ...]) -> Keys:
    """The keys of a command, from the parameters of its function.

    Args:
        command: the function, with flags as typer takes them.
        without: names of parameters that a file cannot give.
    """
    parameters = inspect.signature(command, eval_str=True).parameters.values()
    keys = [_key(parameter) for parameter in parameters if parameter.name not in without]
    return {key.name: key for key in keys}


def _key(parameter: inspect.Parameter) -> Key:
    assert get_origin(parameter.annotation) is Annotated
    annotation, shown = get_args(parameter.annotation)[:2]
    declared = (shown.default, *(shown.param_decls or ()))  # typer keeps the first word of an Option as its default
    flags = [word for word in declared if isinstance(word, str) and word.startswith("--")]
    name = flags[0].removeprefix("--").replace("-", "_") if flags else parameter.name
    return Key(
        name=name,
        parameter=parameter.name,
        kind=_kind(annotation),
        default=parameter.default,
        help=shown.help or "",
        metavar=shown.metavar or name.upper(),
    )


def _kind(annotation: Any) -> type:
    """The type of a value, without None."""
    if get_origin(annotation) in (Union, types.UnionType):
        (annotation,) = (each for each in get_args(annotation) if each is not type(None))
    kind = get_origin(annotation) or annotation
    assert isinstance(kind, type)
    return kind


# --- reading --------------------------------------------------------------------------------------------------


def steps_of(text: str, commands: Mapping[str, Keys], source: str) -> dict[str, dict[str, Any] | None]:
    """What the file says of each command that it names: parameter -> value, or None where it says ``false``.

    Paths are as they stand in the file.

    Args:
        text: the file's text.
        commands: the keys of each command by its name.
        source: what errors call the file.

    Raises:
        InputError: for text that is not TOML, unknown keys, values of another type and keys that are missing.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{source}: it is not TOML: {error}") from error
    steps: dict[str, dict[str, Any] | None] = {}
    for name, table in tables.items():
        if name not in commands:
            raise InputError(f"{source}: {name}: {_no_such_table(name, commands)}")
        if table is not False and not isinstance(table, dict):
            raise InputError(f"{source}: {name}: expected a table [{name}], or false; got {_said(table)}")
        steps[name] = None if table is False else _step(name, table, commands[name], source)
    return steps


def _no_such_table(name: str, commands: Mapping[str, Keys]) -> str:
    """What may be meant by a name that is no command."""
    owners = [command for command, keys in commands.items() if name in keys]
    if owners:
        return f"this key belongs into a table; write it below [{owners[0]}]"
    return f"no such table; {_meant(name, list(commands), 'the tables are')}"


def _meant(name: str, known: list[str], otherwise: str) -> str:
    """The known name that is like this one, or all of them."""
    close = get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"{otherwise} {', '.join(known)}"


def _step(command: str, table: dict[str, Any], keys: Keys, source: str) -> dict[str, Any]:
    """Parameter -> value of one command."""
    values: dict[str, Any] = {}
    for name, value in table.items():
        key = keys.get(name.replace("-", "_"))
        if key is None:
            raise InputError(f"{source}: {command}.{name}: no such key; {_meant(name, list(keys), 'the keys are')}")
        values[key.parameter] = _value(key, value, f"{source}: {command}.{name}")
    for key in keys.values():
        if key.is_required and key.parameter not in values:
            raise InputError(f"{source}: {command}.{key.name}: this key is missing; {_first_sentence(key.help)}")
    return values


def _first_sentence(text: str) -> str:
    return text.partition(". ")[0].rstrip(".")


_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "text (a path)"}


def _value(key: Key, value: Any, place: str) -> Any:
    """The value as the command takes it; raises for one of another type."""
    if key.kind is list:
        return _texts(key, value, place)
    if key.is_joined and isinstance(value, list) and all(_is_a(each, float) or _is_a(each, str) for each in value):
        return ",".join(map(str, value))
    if not _is_a(value, key.kind):
        what = _WORDS[key.kind] + (" or a list" if key.is_joined else "")
        raise InputError(f"{place}: expected {what}; got {_said(value)}")
    return key.kind(value)


def _is_a(value: Any, kind: type) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, str if kind is Path else kind) and isinstance(value, bool) == (kind is bool)


def _texts(key: Key, value: Any, place: str) -> list[str]:
    """A list of text: one word, several, or (of NAME=VALUE) a table."""
    if key.is_table and isinstance(value, dict):
        return [f"{name}={each if isinstance(each, str) else json.dumps(each)}" for name, each in value.items()]
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        what = "a table of names and values" if key.is_table else "text or a list of text"
        raise InputError(f"{place}: expected {what}; got {_said(value)}")
    return value if key.is_table else [_one_name(each) for each in value]


def _one_name(text: str) -> str:
    """The name of one column as the command line takes it, where a comma parts names."""
    quoted = text.replace('"', '""')
    return f'"{quoted}"' if "," in text else text


def _said(value: Any) -> str:
    """A value as TOML writes it."""
    return json.dumps(value, default=str)


# --- writing --------------------------------------------------------------------------------------------------

_HEAD = """\
# An analysis for `probam run`: each table is a command, its keys are the command's options.
# A line that begins with "# " and a key is an option that is not set; remove the "# " to set it. It shows the
# default or, where there is none, the kind of value. Paths are relative to this file.
# `verify = false` or `report = false`, written above the first table, leaves that command out.
"""


def template(commands: Mapping[str, Keys], given: Mapping[str, Mapping[str, Any]]) -> str:
    """A file with all keys and their help, commented out but for those that are given.

    Args:
        commands: the keys of each command by its name.
        given: values to set, by command and key; a command that is not here is commented out as a whole.
    """
    return "\n".join([_HEAD, *(_table(name, keys, given.get(name)) for name, keys in commands.items())]).rstrip() + "\n"


def _table(command: str, keys: Keys, given: Mapping[str, Any] | None) -> str:
    lines = [f"[{command}]" if given is not None else f"# [{command}]", ""]
    for key in keys.values():
        lines += textwrap.wrap(key.help, _WIDTH, initial_indent="## ", subsequent_indent="## ")
        is_given = given is not None and key.name in given
        value = given[key.name] if given is not None and is_given else _example(key)
        lines += [f"{'' if is_given else '# '}{key.name} = {_toml(value)}", ""]
    return "\n".join(lines)


def _example(key: Key) -> Any:
    """The default or, where there is none, a value of the kind."""
    if key.default not in (None, inspect.Parameter.empty):
        return str(key.default) if key.kind is Path else key.default
    if key.is_table:
        name, _, value = key.metavar.partition("=")
        return {name: value}
    if key.kind is list:
        return [key.metavar.partition(",")[0]]
    return {bool: False, int: 1, float: 1.0}.get(key.kind, key.metavar)


def _toml(value: Any) -> str:
    """A value in TOML; text and numbers are written as in JSON."""
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{name} = {_toml(each)}' for name, each in value.items())} }}"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return json.dumps(value, ensure_ascii=False)
