"""Options named once: default, type, check, help text and group in the field of a frozen dataclass.

A class of options is a frozen, keyword-only dataclass whose fields are made by :func:`option`. From it follow

- the keywords of a function: :func:`takes` gives the function the signature and the ``Args`` section of the class;
- the checks: an instance that exists was checked, field by field and then as a whole (:meth:`Options.check_together`);
- what a file keeps: :meth:`Options.changed` and :meth:`Options.as_dict`;
- the flags of the command line and their help (:mod:`probam.cli.flags`).

>>> from dataclasses import dataclass
>>> @dataclass(frozen=True, kw_only=True)
... class Walk(Options):
...     steps: int = option(10, help="How many steps.", check=whole_number(least=1))
>>> @takes(Walk)
... def walk(start: float, options: Walk) -> float:
...     '''Walk.'''
...     return start + options.steps
>>> walk(0.5, steps=3)
3.5
>>> walk(0.5, steps=0)
Traceback (most recent call last):
    ...
probam.errors.InputError: steps: expected a whole number of at least 1; got 0
"""

import functools
import inspect
import math
import numbers
import os
import string
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from typing import Any, Concatenate, NamedTuple, ParamSpec, Protocol, TypeVar, overload, runtime_checkable

from probam.errors import InputError, shown

__all__ = [
    "Check",
    "CommandWords",
    "OpenFunction",
    "Option",
    "Options",
    "boolean",
    "command_words",
    "file_path",
    "flag_of",
    "memory_size",
    "num_bytes",
    "number",
    "one_of",
    "option",
    "option_of",
    "optional",
    "takes",
    "takes_open",
    "whole_number",
    "whole_number_in",
    "word",
]

Check = Callable[[str, Any], None]
"""Raises :class:`probam.errors.InputError` where the option of this name cannot have this value."""


@dataclass(frozen=True)
class Option:
    """What is said of an option beside its name, type and default."""

    help: str
    """One or two sentences for ``help(...)`` and, where ``flag_help`` is empty, for the command line."""
    group: str = ""
    """Heading under which the command line lists the flag."""
    check: Check | None = None
    flag: Any = None
    """Type of the flag's value on the command line (``str``, ``int | None``, ...); None: there is no flag."""
    flag_help: str = ""
    metavar: str | None = None
    flag_name: str = ""
    """The flag where it is not ``--name-of-the-option``."""
    parse: Callable[[Any], Any] | None = None
    """From the flag's value to the option's."""


def option(
    default: Any,
    *,
    help: str,
    group: str = "",
    check: Check | None = None,
    flag: Any = None,
    flag_help: str = "",
    metavar: str | None = None,
    flag_name: str = "",
    parse: Callable[[Any], Any] | None = None,
) -> Any:
    """A field of a class of options; the arguments are those of :class:`Option`."""
    described = Option(help, group, check, flag, flag_help, metavar, flag_name, parse)
    return field(default=default, metadata={"option": described})


def option_of(described: "Field[Any]") -> Option:
    """What is said of the option behind a field of a class of options."""
    option: Option = described.metadata["option"]
    return option


def flag_of(described: "Field[Any]") -> str | None:
    """The flag of the option behind a field of a class of options; None where it has none."""
    option = option_of(described)
    return None if option.flag is None else option.flag_name or f"--{described.name.replace('_', '-')}"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Base of classes of options: an instance that exists has passed every check."""

    def __post_init__(self) -> None:
        for each in fields(self):
            check = option_of(each).check
            if check is not None:
                check(each.name, getattr(self, each.name))
        self.check_together()

    def check_together(self) -> None:
        """Raise :class:`probam.errors.InputError` where options cannot go together."""

    def as_dict(self) -> dict[str, Any]:
        """Name -> value, in the order of the fields."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def changed(self) -> dict[str, Any]:
        """Those that differ from the defaults."""
        changed = {}
        for each in fields(self):
            value = getattr(self, each.name)
            is_plain = isinstance(value, bool | int | float | str)  # others, arrays say, are compared by identity
            if value is not each.default and not (is_plain and value == each.default):
                changed[each.name] = value
        return changed


# --- a command that gives the options -------------------------------------------------------------------------


class CommandWords(NamedTuple):
    """The flags of some options, and the options that the command line cannot give."""

    groups: list[list[str]]
    """Each flag with its value."""
    in_python: list[str]
    """Names of the options whose values are objects of Python, or that have no flag."""


def command_words(kind: type[Options], values: Mapping[str, Any]) -> CommandWords:
    """Values of options as words of the command line, in the order of the class.

    Args:
        kind: the class of options.
        values: name -> value; None and False are what no flag says.
    """
    groups, in_python = [], []
    for each in fields(kind):
        value, option = values.get(each.name), option_of(each)
        if value is None or value is False:
            continue
        flag = flag_of(each) or ""
        if option.flag is bool and value is True:
            groups.append([flag])
        elif option.flag not in (None, bool) and isinstance(value, str | os.PathLike | numbers.Number):
            groups.append([flag, str(value)])
        elif option.flag not in (None, bool) and isinstance(value, list | tuple):
            groups.append([flag, ",".join(map(str, value))])
        else:
            in_python.append(each.name)
    return CommandWords(groups, in_python)


# --- checks of one value --------------------------------------------------------------------------------------


def one_of(*names: str) -> Check:
    """The value is one of these words."""

    def check(name: str, value: Any) -> None:
        if not isinstance(value, str) or value not in names:
            raise InputError(f"{name}: expected one of {', '.join(names)}; got {shown(value)}")

    return check


def whole_number(*, least: int, what: str = "whole number") -> Check:
    """The value is a whole number of at least ``least``; ``what`` names it in the message."""

    def check(name: str, value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
            raise InputError(f"{name}: expected a {what} of at least {least}; got {shown(value)}")

    return check


def whole_number_in(expected: str, least: int, most: int) -> Check:
    """The value is a whole number from ``least`` to ``most``; ``expected`` says so in the message."""

    def check(name: str, value: Any) -> None:
        is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        if not is_whole or not least <= int(value) <= most:
            raise InputError(f"{name}: expected {expected}; got {shown(value)}")

    return check


def number(
    *, what: str = "number", least: float = -math.inf, above: float = -math.inf, is_finite: bool = False
) -> Check:
    """The value is a real number within the bounds and not NaN; ``what`` names it in the message."""
    bound = f" of at least {least:g}" if least > -math.inf else f" above {above:g}" if above > -math.inf else ""

    def check(name: str, value: Any) -> None:
        is_within = _is_number(value) and value >= least and value > above
        if not is_within or (is_finite and value == math.inf):
            raise InputError(f"{name}: expected a {what}{bound}; got {shown(value)}")

    return check


def _is_number(value: Any) -> bool:
    """Whether this is a real number of Python, or a single one of NumPy or JAX."""
    dtype = getattr(value, "dtype", None)
    if dtype is None:
        if isinstance(value, int):
            return not isinstance(value, bool) and abs(value) < 2**1023  # within the floating-point numbers
        return isinstance(value, numbers.Real)
    return dtype.kind in "iuf" and value.ndim == 0


_UNITS = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_UNITS |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}


def memory_size(name: str, value: Any) -> None:
    """The value is a number of bytes above zero, or text such as ``1.5GiB`` or ``500 MB``."""
    try:
        num_bytes(value)
    except (ValueError, OverflowError) as error:
        raise InputError(
            f"{name}: expected a size of memory, as 1GiB, 500MB or a number of bytes; got {shown(value)}"
        ) from error


def num_bytes(size: object) -> int:
    """Bytes of a size of memory. Raises ``ValueError`` for what is none.

    >>> num_bytes("1.5 GiB"), num_bytes("20MB"), num_bytes(4096)
    (1610612736, 20000000, 4096)
    """
    if isinstance(size, str):
        digits = size.rstrip(string.ascii_letters)
        unit = _UNITS.get(size[len(digits) :].lower() or "b", math.nan)
        number = float(digits) * unit
    elif isinstance(size, bool) or not isinstance(size, numbers.Integral):
        raise ValueError(size)
    else:
        number = float(size)
    if not 1 <= number < math.inf:
        raise ValueError(size)
    return int(number)


def boolean(name: str, value: Any) -> None:
    """The value is True or False."""
    if not isinstance(value, bool) and getattr(getattr(value, "dtype", None), "kind", "") != "b":
        raise InputError(f"{name}: expected True or False; got {shown(value)}")


def word(name: str, value: Any) -> None:
    """The value is text."""
    if not isinstance(value, str):
        raise InputError(f"{name}: expected a word; got {shown(value)}")


def file_path(name: str, value: Any) -> None:
    """The value is the path of a file, as text or as a path object."""
    if not isinstance(value, str | os.PathLike):
        raise InputError(f"{name}: expected the path of a file; got {shown(value)}")


def optional(check: Check) -> Check:
    """The value is None, or passes the check."""

    def check_given(name: str, value: Any) -> None:
        if value is not None:
            check(name, value)

    return check_given


# --- keywords of a function -----------------------------------------------------------------------------------

_P = ParamSpec("_P")
_O = TypeVar("_O", bound=Options)
_S = TypeVar("_S")
_R = TypeVar("_R")
_S_contra = TypeVar("_S_contra", contravariant=True)
_R_co = TypeVar("_R_co", covariant=True)


@runtime_checkable
class OpenFunction(Protocol[_S_contra, _P, _R_co]):
    """A function of data and the options of a class, which hands other keywords on."""

    @overload
    def __call__(self, data: _S_contra, /, *args: _P.args, **options: _P.kwargs) -> _R_co: ...
    @overload
    def __call__(self, data: _S_contra, **options: Any) -> _R_co: ...


def takes(options: Callable[_P, _O]) -> Callable[[Callable[[_S, _O], _R]], Callable[Concatenate[_S, _P], _R]]:
    """Decorator: the fields of a class of options become the keywords of a function of (subject, options).

    The function's signature and docstring show the options, so that ``help`` and editors do; unknown keywords raise
    :class:`probam.errors.InputError`. On ``__init__`` they are the options of the class.
    """
    assert isinstance(options, type)

    def decorate(function: Callable[[_S, _O], _R]) -> Callable[Concatenate[_S, _P], _R]:
        @functools.wraps(function)
        def taking(*args: Any, **keywords: Any) -> _R:
            subject, chosen, others = _taken(function, options, args, keywords)
            check_names(_called(function), options, list(others))
            return function(subject, options(**chosen))

        _show(taking, function, options)
        return taking

    return decorate


def takes_open(
    options: Callable[_P, _O],
) -> Callable[[Callable[[_S, _O, dict[str, Any]], _R]], OpenFunction[_S, _P, _R]]:
    """As :func:`takes`, for a function of (data, options, others) that receives unknown keywords as ``others``.

    Type checkers know its first argument by the name ``data``.
    """
    assert isinstance(options, type)

    def decorate(function: Callable[[_S, _O, dict[str, Any]], _R]) -> OpenFunction[_S, _P, _R]:
        @functools.wraps(function)
        def taking(*args: Any, **keywords: Any) -> _R:
            subject, chosen, others = _taken(function, options, args, keywords)
            return function(subject, options(**chosen), others)

        _, _, others = inspect.signature(function).parameters.values()
        _show(taking, function, options, others.replace(kind=others.VAR_KEYWORD, annotation=Any))
        return taking

    return decorate


def _taken(
    function: Callable[..., Any], options: type, args: tuple[Any, ...], keywords: dict[str, Any]
) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Subject, options and other keywords of a call; the subject may come by its name."""
    subject = next(iter(inspect.signature(function).parameters))
    if args[1:]:
        raise InputError(f"{_called(function)}: options are given by name; got {shown(args[1])} without one")
    if not args and subject not in keywords:
        raise TypeError(f"{_called(function)}() misses its argument {subject!r}")
    known = {each.name for each in fields(options)}
    value = args[0] if args else keywords.pop(subject)
    others = {name: other for name, other in keywords.items() if name not in known}
    return value, {name: keywords[name] for name in keywords if name in known}, others


def _called(function: Callable[..., Any]) -> str:
    """Name by which users call it: that of the class, for ``__init__``."""
    return function.__qualname__.removesuffix(".__init__").rpartition(".")[2]


def _show(taking: Any, function: Callable[..., Any], options: type, *others: inspect.Parameter) -> None:
    """Give ``taking`` the signature and the docstring of a function with these options."""
    own = inspect.signature(function)
    subject = next(iter(own.parameters.values()))
    taking.__signature__ = own.replace(parameters=[subject, *parameters(options), *others])
    taking.__doc__ = documented(function.__doc__ or "", options)


def check_names(function: str, options: type, names: Sequence[str]) -> None:
    """Raise :class:`probam.errors.InputError` for a keyword that is no option."""
    known = [each.name for each in fields(options)]
    for name in names:
        if name not in known:
            raise InputError(f"{name}: {function} has no such option; it has {', '.join(known)}")


def parameters(options: type) -> list[inspect.Parameter]:
    """The options as keyword-only parameters of a signature."""
    return [
        inspect.Parameter(each.name, inspect.Parameter.KEYWORD_ONLY, default=each.default, annotation=each.type)
        for each in fields(options)
    ]


def documented(docstring: str, options: type) -> str:
    """A docstring with the options described in its ``Args`` section, after what stands there."""
    lines = []
    for each in fields(options):
        lines += textwrap.wrap(f"{each.name}: {option_of(each).help}", 108, subsequent_indent="    ")
    described = textwrap.indent("\n".join(lines), "    ")
    text = inspect.cleandoc(docstring)
    if "\nArgs:\n" not in text:
        head, mark, rest = text.partition("\nRaises:\n")
        return f"{head.rstrip()}\n\nArgs:\n{described}\n{mark}{rest}"
    before, after = text.split("\nArgs:\n", 1)
    own, mark, rest = after.partition("\n\n")
    return f"{before}\nArgs:\n{own}\n{described}{mark}{rest}"
