"""What a fit says of itself: the attributes at the root of its file."""

import json
import sys
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import jax
import numpy as np
from numpyro.distributions import Distribution

from probam.data.pieces import STANDARD_INPUT
from probam.data.schema import SCHEMA
from probam.data.table import Table
from probam.distributions.stick_breaking import expected_num_components, truncation_error
from probam.distributions.supports import innermost
from probam.fits.choices import sampler_of
from probam.fits.options import FitOptions
from probam.fits.prepared import Prepared
from probam.fits.prior_text import texts_of_priors
from probam.inference.common.result import EngineResult
from probam.models.mixture import Mixture
from probam.models.weights import StickBreaking
from probam.options import command_words

__all__ = ["describe", "fit_attributes", "versions"]

_WEIGHTS = {
    "uniform": "equal weights",
    "fixed": "fixed weights",
    "dirichlet": "Dirichlet weights",
    "dp": "Dirichlet-process weights",
    "pyp": "Pitman-Yor weights",
}
_FAMILIES = {"gaussian": "Gaussian", "vmf": "von Mises-Fisher", "bernoulli": "Bernoulli", "dirichlet": "Dirichlet"}

_LARGEST_PARAMETER = 16
"""Parameters of a prior with more numbers than this are not written out."""


def fit_attributes(
    options: FitOptions, engine_options: Mapping[str, Any], prepared: Prepared, model: Mixture, result: EngineResult
) -> dict[str, Any]:
    """Root attributes of a fit, all but the seconds it took."""
    is_named = isinstance(options.family, str)
    return {
        "schema": SCHEMA,
        "probam_version": version("probam"),
        "family": options.family if is_named else model.family.signature,
        "family_options": {"covariance": options.covariance} if options.covariance else {},
        "weights": options.weights,
        "weights_options": _weights_options(options),
        "num_components": model.num_components,
        "engine": options.engine,
        "engine_options": {name: value for name, value in engine_options.items() if name != "checkpoint"},
        "status": result.status,
        "estimate": _estimate(options, result),
        "command": _command(options, engine_options, prepared, model),
        "sampler": sampler_of(model, has_row_weights=options.sample_weight is not None),
        "seed": int(options.seed),
        "dtype": prepared.dtype.name,
        "source": prepared.table.source,
        "standardised": int(options.standardise),
        "normalised": int(options.normalise),
        "given_prior": texts_of_priors(_given_priors(options)),
        "prior": {site: _law(prior) for site, prior in model.prior.items()},
        "model": "; ".join(_sentences(options, prepared, model, result)),
        "truncation": _truncation(model, result, prepared.num_data),
        "versions": versions(),
        "devices": f"{jax.device_count()} {jax.default_backend()}"
        + (f" in {jax.process_count()} processes" if options.distributed else ""),
    }


def _estimate(options: FitOptions, result: EngineResult) -> str:
    """What was maximised or drawn from, and for a maximum a posteriori under which prior."""
    if result.estimate != "maximum a posteriori":
        return result.estimate
    own = _given_priors(options)
    if not own:
        return f"{result.estimate} under the default prior"
    return f"{result.estimate} under the given prior of {', '.join(own)} and the default prior of the rest"


def _given_priors(options: FitOptions) -> dict[str, Distribution]:
    """The priors that the user gave, by site."""
    hyper = {name: getattr(options, name) for name in ("alpha", "discount")}
    return {**(options.prior or {}), **{name: law for name, law in hyper.items() if isinstance(law, Distribution)}}


def _command(
    options: FitOptions, engine_options: Mapping[str, Any], prepared: Prepared, model: Mixture
) -> dict[str, Any]:
    """The words of the command that repeats the fit, by groups that stay together, and what it cannot give.

    What decides the model is named whether or not it is the default.
    """
    values = options.changed() | {
        "family": options.family if isinstance(options.family, str) else model.family.signature,
        "weights": options.weights,
        "components": model.num_components,
        "engine": options.engine,
        "seed": int(options.seed),
        "sample_weight": getattr(options.sample_weight, "name", options.sample_weight),
    }
    values = {name: value for name, value in values.items() if name not in ("progress", "checkpoint", "output")}
    flags = command_words(FitOptions, values)
    source = prepared.table.source
    groups = [
        ["probam", "fit", "DATA" if source in ("array", "data", STANDARD_INPUT) else source],
        *flags.groups,
    ]  # no file's names
    groups += [["--float32"]] if prepared.dtype == np.float32 else []
    groups += [
        ["--option", f"{name}={json.dumps(value)}"]
        for name, value in engine_options.items()
        if name not in values and name != "checkpoint"
    ]
    return {"groups": [*groups, ["-o", "fit.nc"]], "in_python": flags.in_python}


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on."""
    names = ("probam", "jax", "numpyro", "optax", "numpy", "xarray")
    return {name: version(name) for name in names} | {"python": sys.version.split()[0]}


def describe(
    model: Mixture,
    table: Table,
    weights: str,
    alpha: Any,
    discount: Any,
    *,
    num_data: int | None = None,
    streamed: int | None = None,
) -> str:
    """The model in words.

    Args:
        model: the program that was fitted.
        table: the data.
        weights: name of the weight prior.
        alpha: its strength or concentration: a number, a prior or None for the default prior.
        discount: its discount, likewise.
        num_data: number of data that were fitted; None: those of the table.
        streamed: number of data, where a stream made the memories; it has no truncation.
    """
    is_process = weights in ("dp", "pyp")
    parameters = ", " + _parameter("alpha", alpha) if is_process else ""
    if weights == "pyp":
        parameters += ", " + _parameter("discount", discount)
    covariance = getattr(model.family, "covariance", None)
    memories = _FAMILIES.get(model.family.name, model.family.name)
    memories += f" ({covariance} covariance)" if covariance else ""
    mixture = f"A mixture of {memories} memories with {_WEIGHTS[weights]}{parameters}"
    features = f"{table.num_features} feature{'s' if table.num_features > 1 else ''}"
    if streamed is not None:
        return f"{mixture}, made on demand by a stream of {streamed} data of {features}"
    size = f"truncated at {model.num_components}" if is_process else f"{model.num_components} memories"
    return f"{mixture}, {size}, fitted to {num_data or table.num_data} data of {features}"


def _parameter(name: str, value: Any) -> str:
    return f"{name} with a prior" if value is None or isinstance(value, Distribution) else f"{name} {value:g}"


def _sentences(options: FitOptions, prepared: Prepared, model: Mixture, result: EngineResult) -> list[str]:
    laws = (options.weights, options.alpha, options.discount)
    sentences = [describe(model, prepared.table, *laws, num_data=prepared.num_data)]
    if prepared.blocks is not None:
        sentences.append(f"default priors scaled to {prepared.table.num_data} of the rows, drawn at random")
    num_missing = int(np.isnan(prepared.x).sum())
    if num_missing:
        sentences.append(f"{num_missing} of {prepared.x.size} entries missing and integrated out")
    if options.normalise:
        sentences.append("each row divided by its length")
    if options.sample_weight is not None:
        sentences.append("data weighted")
    if prepared.allowed is not None:
        known = int((~prepared.allowed.all(axis=1)).sum())
        sentences.append(f"memories of {known} of {len(prepared.x)} rows known")
    return [*sentences, result.note] if result.note else sentences


def _weights_options(options: FitOptions) -> dict[str, Any]:
    """Numbers of the weight prior as they were given; priors in words."""
    numbers: dict[str, Any] = {}
    for name in ("alpha", "discount"):
        value = getattr(options, name)
        if value is not None:
            numbers[name] = _law(value) if isinstance(value, Distribution) else float(value)
    if options.given_weights is not None:
        numbers["given"] = [float(weight) for weight in options.given_weights]
    return numbers


def _law(law: Distribution) -> str:
    """A distribution in words, such as ``Gamma(concentration=1.0, rate=1.0)``."""
    inner = innermost(law)
    values = {name: inner.__dict__.get(name) for name in inner.arg_constraints}
    words = [
        f"{name}={np.round(np.asarray(value, float), 6).tolist() if np.size(value) <= _LARGEST_PARAMETER else '...'}"
        for name, value in values.items()
        if value is not None
    ]
    return f"{type(inner).__name__}({', '.join(words)})"


def _truncation(model: Mixture, result: EngineResult, num_data: int) -> dict[str, float] | None:
    """What the truncation of stick-breaking costs at the posterior mean of (alpha, discount): CLAIMS A20."""
    law = model.weights
    if not isinstance(law, StickBreaking):
        return None
    alpha, discount = (
        float(np.mean(result.sites[name])) if name in result.sites else float(getattr(law, name))
        for name in ("alpha", "discount")
    )
    error = truncation_error(alpha, discount, model.num_components, num_data)
    return {
        "alpha": alpha,
        "discount": discount,
        "num_components": model.num_components,
        "expected_remaining": float(error.expected_remaining),
        "tv_bound": float(error.tv_bound),
        "tv_bound_common": float(error.tv_bound_common),
        "prior_expected_memories": float(expected_num_components(alpha, discount, num_data)),
    }
