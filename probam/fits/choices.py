"""Families and engines found by name, and the precision that JAX computes in."""

import importlib
import importlib.util
import inspect
import pkgutil
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import jax.numpy as jnp
import numpy as np

import probam.models
from probam.errors import InputError
from probam.family import Family, families, family

__all__ = ["ENGINES", "double_precision", "find_engine", "find_family"]

ENGINES = ("em", "gradient_em", "clam", "svi", "cavi", "nuts", "gibbs", "smc")


_TAKE_MISSING = ("em", "gradient_em", "svi", "cavi", "nuts", "gibbs", "smc")
"""Engines that were proved on data with missing entries."""


def double_precision() -> bool:
    """Whether JAX computes in float64 where it is given float64."""
    return bool(jnp.zeros(()).dtype == jnp.float64)


def find_family(name: str | Family, covariance: str | None = None) -> Family:
    """The family called ``name``; ``file.py:Name`` and ``package.module:Name`` bring their own.

    Raises :class:`probam.errors.InputError` where nothing of that name can be found.
    """
    if isinstance(name, Family):
        if covariance is not None:
            raise InputError("covariance: a Family object says its own covariance; leave the argument out")
        return name
    for module in pkgutil.iter_modules(probam.models.__path__, "probam.models."):
        importlib.import_module(module.name)
    options = {} if covariance is None else {"covariance": covariance}
    if ":" in name:
        place, attribute = name.rsplit(":", 1)
        found = getattr(_module(place), attribute, None)
        if not (isinstance(found, type) and issubclass(found, Family)):
            raise InputError(f"family: {place} has no Family called {attribute!r}")
        name = found.name
        if families().get(name) is not found:
            raise InputError(f"family: {place}:{attribute} is not registered; decorate it with probam.family.register")
    return family(name, **options)


def _module(place: str) -> ModuleType:
    try:
        if not place.endswith(".py"):
            return importlib.import_module(place)
        path = Path(place)
        if not path.is_file():
            raise InputError(f"family: no such file: {place}")
        name = f"probam_family_{path.stem}"
        if name in sys.modules and getattr(sys.modules[name], "__file__", None) == str(path.resolve()):
            return sys.modules[name]
        spec = importlib.util.spec_from_file_location(name, path.resolve())
        if spec is None or spec.loader is None:
            raise InputError(f"family: {place} is not a Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module
    except (ImportError, SyntaxError) as error:
        raise InputError(f"family: {place} cannot be imported ({error})") from error


def find_engine(name: str, options: Mapping[str, Any]) -> Any:
    """The engine's ``run``, after its options were checked by name."""
    if name not in ENGINES:
        raise InputError(f"engine: expected one of {', '.join(ENGINES)}; got {name!r}")
    run = importlib.import_module(f"probam.inference.{name}.engine").run
    known = {
        parameter.name: parameter
        for parameter in inspect.signature(run).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.name not in ("progress", "sample_weight")
    }
    for option, value in options.items():
        if option not in known:
            raise InputError(f"{option}: engine {name!r} has no such option; it has {', '.join(known)}")
        wanted = known[option].annotation
        fits = {
            int: isinstance(value, int | np.integer) and not isinstance(value, bool),
            float: isinstance(value, int | float | np.number) and not isinstance(value, bool),
            bool: isinstance(value, bool),
            str: isinstance(value, str),
        }
        kinds = [kind for kind in fits if kind in (get_args(wanted) or (wanted,))]
        if not any(fits[kind] for kind in kinds) and not (value is None and type(None) in get_args(wanted)):
            words = {int: "a whole number", float: "a number", bool: "True or False", str: "a word"}
            said = " or ".join(words[kind] for kind in kinds)
            raise InputError(f"{option}: expected {said}; got {value!r}")
    return run
