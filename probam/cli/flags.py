"""Flags of the command line, made from a class of options: name, type, default, help and group as it has them."""

import functools
import inspect
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, fields
from typing import Annotated, Any

import typer

from probam.options import Options, option_of

__all__ = ["flag", "flags"]


def flags(
    options: type[Options],
    *,
    only: Sequence[str] | None = None,
    group: str | None = None,
    into: str = "options",
    after: str = "output",
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: a command gets a flag for every option that has one, and receives their values as a mapping.

    Args:
        options: the class of options.
        only: names of the options to make flags of; None takes all that have a flag.
        group: heading for all flags, in place of their own.
        into: the command's parameter that receives name -> value; values that are None are left out.
        after: the command's parameter after which the flags stand.
    """
    flagged = {
        each.name: each
        for each in fields(options)
        if option_of(each).flag is not None and (only is None or each.name in only)
    }

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def run(**values: Any) -> Any:
            chosen = {name: values.pop(name) for name in flagged}
            return command(**values, **{into: _parsed(chosen, flagged)})

        parameters: list[inspect.Parameter] = []
        for name, parameter in inspect.signature(command, eval_str=True).parameters.items():
            if name != into:
                parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
            if name == after:
                parameters += [_parameter(each, group) for each in flagged.values()]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return decorate


def flag(options: type[Options], name: str, *, group: str | None = None) -> Any:
    """The flag of one option, for ``Annotated[type, flag(...)]``; ``group`` is a heading in place of its own."""
    return _flag(next(each for each in fields(options) if each.name == name), group)


def _flag(each: "Field[Any]", group: str | None) -> Any:
    option = option_of(each)
    words = [f"--{each.name.replace('_', '-')}"] if option.flag is bool else []  # alone, or there were a --no-...
    return typer.Option(
        *([option.flag_name] if option.flag_name else words),
        metavar=option.metavar,
        help=option.flag_help or option.help,
        rich_help_panel=(option.group if group is None else group) or None,
    )


def _parameter(each: "Field[Any]", group: str | None) -> inspect.Parameter:
    annotation = operator.getitem(Annotated, (option_of(each).flag, _flag(each, group)))
    return inspect.Parameter(each.name, inspect.Parameter.KEYWORD_ONLY, default=each.default, annotation=annotation)


def _parsed(values: Mapping[str, Any], flagged: Mapping[str, "Field[Any]"]) -> dict[str, Any]:
    """Values that were given, as the options take them."""
    parsed = {}
    for name, value in values.items():
        parse = option_of(flagged[name]).parse
        if value is not None:
            parsed[name] = value if parse is None else parse(value)
    return parsed
