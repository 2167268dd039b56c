"""Families and engines found by name, and the precision that JAX computes in."""

import importlib
import importlib.machinery
import importlib.util
import inspect
import os
import pkgutil
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType
from typing import Any, get_args, get_origin

import jax
import numpy as np
from typing_extensions import override

import probam.models
from probam.errors import InputError, own_code, shown
from probam.family import Family, Model, family, registered
from probam.family.capabilities import Gradients
from probam.fits.options import ENGINES
from probam.inference.gibbs.moves import conditionals_of
from probam.options import one_of

__all__ = [
    "check_precision",
    "double_precision",
    "engine_options",
    "families",
    "find_engine",
    "find_family",
    "precision",
    "sampler_of",
    "saved_family",
]


def double_precision() -> bool:
    """Whether JAX computes in float64 where it is given float64."""
    return bool(jax.dtypes.canonicalize_dtype(np.float64) == np.float64)


def check_precision(dtype: np.dtype[Any], what: str, source: str) -> None:
    """Raise :class:`probam.errors.InputError` for what a file holds in double precision where that is not turned on.

    Args:
        dtype: of the file's numbers.
        what: a fit, a stream.
        source: what the file is called.
    """
    if dtype == np.float64 and not double_precision():
        raise InputError(
            f"{source}: this {what} is in double precision; turn it on before loading: "
            "jax.config.update('jax_enable_x64', True)"
        )


def precision(dtype: np.dtype[Any]) -> AbstractContextManager[Any]:
    """Context in which JAX computes in this precision, whatever the program's own setting is."""
    context: AbstractContextManager[Any] = jax.enable_x64(dtype == np.float64)
    return context


def families() -> dict[str, type[Family]]:
    """All families by name, in alphabetical order: those of ``probam.models`` and others that were registered.

    >>> {"bernoulli", "dirichlet", "gaussian", "student_t", "vmf"} <= set(families())
    True
    """
    for module in pkgutil.iter_modules(probam.models.__path__, "probam.models."):
        importlib.import_module(module.name)
    return registered()


def find_family(name: str | Family, covariance: str | None = None) -> Family:
    """The family called ``name``.

    Args:
        name: of a known family, with its options (``student_t,df=4``); ``file.py:Name`` or ``package.module:Name`` for
            one that is defined there; or a Family, which is returned.
        covariance: of Gaussian memories; None for the family's default.

    Raises :class:`probam.errors.InputError` where nothing of that name can be found.
    """
    if isinstance(name, Family):
        if covariance is not None:
            raise InputError("covariance: a Family object has its own covariance; leave the argument out")
        return name
    families()
    options = {} if covariance is None else {"covariance": covariance}
    if ":" in name:
        place, attribute = name.rsplit(":", 1)
        cls = getattr(_module(place), attribute, None)
        if not (isinstance(cls, type) and issubclass(cls, Family)):
            raise InputError(f"family: {place} has no Family called {attribute!r}")
        name = cls.name
        if registered().get(name) is not cls:
            raise InputError(f"family: {place}:{attribute} is not registered; decorate it with probam.family.register")
    return family(name, **options)


def saved_family(recorded: str, covariance: str | None, given: str | Family | None, source: str) -> Family:
    """The family of a saved fit or stream. A file never chooses the code that is run: see ``given``.

    Args:
        recorded: the name in the file.
        covariance: that in the file.
        given: what the person names, who so has its code run; needed for a family of their own that this process has
            not loaded yet.
        source: what the file is called in messages.

    Raises :class:`probam.errors.InputError` where the code of the family was not named, or another family was.
    """
    own = recorded.rsplit(":", 1) if ":" in recorded else None
    if given is None:
        if own is None:
            try:
                return find_family(recorded, covariance)
            except InputError as error:
                raise InputError(f"{source}: {error}") from error
        known = _loaded_family(*own)
        if known is None:
            raise InputError(
                f"{source}: this fit has a family of your own, {recorded!r}, and a file does not choose the code that "
                f"is run; name it if you trust that code: --family {recorded} on the command line, "
                f"family={recorded!r} in Python"
            )
        return family(known.name) if covariance is None else family(known.name, covariance=covariance)
    if isinstance(given, str) and ":" not in given:
        same = own is None and given.split(",")[0] == recorded.split(",")[0]
        found = find_family(recorded if same else given, covariance if same else None)
    else:
        found = find_family(given)
        same = type(found).__name__ == own[1] if own is not None else found.name == recorded.split(",")[0]
    if not same:
        named = given if isinstance(given, str) else given.signature
        raise InputError(f"family: {source} was fitted with {recorded!r}; got {named}")
    return found


def _loaded_family(place: str, name: str) -> type[Family] | None:
    """A family of the user's own that this process has registered already; nothing is run or looked up in a module."""
    module = _loaded(place)
    classes = registered().values() if module is not None else ()
    return next((cls for cls in classes if sys.modules.get(cls.__module__) is module and cls.__name__ == name), None)


def _loaded(place: str) -> ModuleType | None:
    """The module of a family, if this process has it already; nothing is run."""
    if not place.endswith(".py"):
        return sys.modules.get(place)
    path = Path(place)
    module = sys.modules.get(f"probam_family_{path.stem}")
    return module if getattr(module, "__file__", None) == str(path.resolve()) else None


class _ReadOnly(importlib.machinery.SourceFileLoader):
    """Leaves no ``__pycache__`` in the user's folder."""

    @override
    def set_data(self, path: str, data: object, *, _mode: int = 0o666) -> None:
        """Nothing is kept."""


def _module(place: str) -> ModuleType:
    """The module of a family; its code is run where the process has not loaded it yet."""
    with own_code(f"family: {place} cannot be imported", place):
        if not place.endswith(".py"):
            return importlib.import_module(place)
        path = Path(place)
        if not path.is_file():
            raise InputError(f"family: no such file: {place}")
        if (loaded := _loaded(place)) is not None:
            return loaded
        name = f"probam_family_{path.stem}"
        loader = _ReadOnly(name, str(path.resolve()))
        spec = importlib.util.spec_from_file_location(name, path.resolve(), loader=loader)
        assert spec is not None, "it has a loader"
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            loader.exec_module(module)
        except BaseException:
            del sys.modules[name]  # a half of it is not found by the next call
            raise
        return module


def find_engine(name: str, options: Mapping[str, Any]) -> Any:
    """The engine's ``run``, after its options were checked by name and type.

    Args:
        name: one of ``ENGINES``.
        options: keywords for ``run``.

    Raises :class:`probam.errors.InputError` for an engine or an option that does not exist, and for a wrong type.
    """
    one_of(*ENGINES)("engine", name)
    parameters = engine_options(name)
    for option, value in options.items():
        if option not in parameters:
            others = [repr(engine) for engine in ENGINES if option in engine_options(engine)]
            there = f"; engine {others[0]} has it" if len(others) == 1 else f"; engines {', '.join(others)} have it"
            raise InputError(
                f"{option}: engine {name!r} has no such option; it has {', '.join(parameters)}{there if others else ''}"
            )
        _check_type(option, value, parameters[option].annotation)
    return _run_of(name)


_OF_EVERY_FIT = ("progress", "sample_weight", "labels", "blocks")
"""Keywords of an engine that are made of options of the fit."""


def _run_of(engine: str) -> Any:
    return importlib.import_module(f"probam.inference.{engine}.engine").run


def engine_options(engine: str) -> dict[str, inspect.Parameter]:
    """The options of an engine: the keywords of its ``run`` that are no option of every fit."""
    return {
        parameter.name: parameter
        for parameter in inspect.signature(_run_of(engine)).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.name not in _OF_EVERY_FIT
    }


def sampler_of(model: Model, *, has_row_weights: bool) -> str:
    """The engine that samples the posterior of a model best: the default one.

    Where memories can be drawn from their full conditionals, ``gibbs`` moves all labels at once and is cheap enough
    to run until its chains agree; NUTS crosses between the many orders and splits of a process too rarely. ``gibbs``
    has no weights of the data.
    """
    if conditionals_of(model) and not has_row_weights:
        return "gibbs"
    if Gradients.ask(model.family):
        return "nuts"
    return "smc" if has_row_weights else "gibbs"


_TYPES: dict[Any, tuple[str, Callable[[Any], bool]]] = {
    int: ("a whole number", lambda value: isinstance(value, int | np.integer) and not isinstance(value, bool)),
    float: ("a number", lambda value: isinstance(value, int | float | np.number) and not isinstance(value, bool)),
    bool: ("True or False", lambda value: isinstance(value, bool)),
    str: ("a word", lambda value: isinstance(value, str)),
    os.PathLike: ("a path", lambda value: isinstance(value, os.PathLike)),
}
"""Types that an engine's option can have: in words, and whether a value is of the type."""


def _check_type(option: str, value: Any, annotation: Any) -> None:
    """Raise :class:`probam.errors.InputError` where the value of an engine's option is not of the annotated type."""
    types = [get_origin(part) or part for part in get_args(annotation) or (annotation,)]
    if value is None and type(None) in types:
        return
    known = [_TYPES[each] for each in types if each in _TYPES]
    if not any(fits(value) for _, fits in known):
        raise InputError(f"{option}: expected {' or '.join(words for words, _ in known)}; got {shown(value)}")
    if isinstance(value, int) and abs(value) >= (most := 2**31 if int in types else 2**1023):
        raise InputError(f"{option}: expected a number below 2^{most.bit_length() - 1}; got {shown(value)}")
