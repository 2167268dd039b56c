"""Flags of the command line, made from a class of options: name, type, default, help and group as it has them."""

import functools
import inspect
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Annotated, Any

import typer

from probam.options import Option, Options, option_of

__all__ = ["flags"]


def flags(
    options: type[Options],
    *,
    only: Sequence[str] | None = None,
    group: str | None = None,
    into: str = "options",
    after: str = "output",
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: a command gets a flag for every option that has one, and is handed their values as a mapping.

    Args:
        options: the class of options.
        only: names of the options to make flags of; None takes all that have a flag.
        group: heading for all flags, in place of their own.
        into: the command's parameter that receives name -> value; values that are None are left out.
        after: the command's parameter after which the flags stand.
    """
    described = {
        each.name: (each, option_of(each))
        for each in fields(options)
        if option_of(each).flag is not None and (only is None or each.name in only)
    }

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def run(**values: Any) -> Any:
            taken = {name: values.pop(name) for name in described}
            return command(**values, **{into: _parsed(taken, {name: of for name, (_, of) in described.items()})})

        own = inspect.signature(command, eval_str=True).parameters
        made = [_parameter(name, each.default, of, group) for name, (each, of) in described.items()]
        order: list[inspect.Parameter] = []
        for name, parameter in own.items():
            if name != into:
                order.append(parameter)
            if name == after:
                order += made
        shown = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in order]
        run.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
        return run

    return decorate


def _parameter(name: str, default: Any, of: Option, group: str | None) -> inspect.Parameter:
    words = [of.flag_name] if of.flag_name else [f"--{name.replace('_', '-')}"] if of.flag is bool else []
    typed = typer.Option(
        *words,
        metavar=of.metavar,
        help=of.flag_help or of.help,
        rich_help_panel=(of.group if group is None else group) or None,
    )
    annotation = operator.getitem(Annotated, (of.flag, typed))
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _parsed(values: Mapping[str, Any], described: Mapping[str, Option]) -> dict[str, Any]:
    parsed = {}
    for name, value in values.items():
        if value is None:
            continue
        parse = described[name].parse
        parsed[name] = value if parse is None else parse(value)
    return parsed
