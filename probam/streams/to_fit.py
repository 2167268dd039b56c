"""From a stream to a fit: draws of all sites, and the attributes that describe their origin."""

import math
from importlib.metadata import version
from typing import Any

import jax
import numpy as np
import xarray as xr

from probam.compiled import compiled_quickly
from probam.data.schema import SCHEMA
from probam.data.table import Table
from probam.fits.assemble import KeysToRead, fit_tree, keys_to_read
from probam.fits.attributes import describe, versions
from probam.fits.choices import sampler_of
from probam.fits.prepared import Prepared
from probam.fits.prior_text import texts_of_priors
from probam.inference.common.progress import Reporter
from probam.inference.common.result import EngineResult
from probam.models.mixture import Mixture
from probam.models.weights import weight_prior
from probam.options import command_words
from probam.streams.draws import draw_from_partitions
from probam.streams.learning import Learning
from probam.streams.options import StreamOptions
from probam.streams.partitions import Process

__all__ = ["fit_tree_of_stream", "usual_draws"]

_ENGINE_OPTIONS = ("rule", "energy", "base", "warm", "tidy_every", "particles", "rejuvenate_every", "window")

_DRAWS, _FEWEST_DRAWS = 200, 10
_NUMBERS = 2**23
"""Most numbers that all draws together have by default, where that leaves enough draws."""


def usual_draws(learning: Learning) -> int:
    """How many draws a fit has by default: fewer where a stream has many memories of many features."""
    of_a_memory = sum(math.prod(law.shape()) for law in learning.prior.values())
    of_a_draw = (learning.partitions.most_memories + 1) * of_a_memory
    return max(_FEWEST_DRAWS, min(_DRAWS, _NUMBERS // of_a_draw))


def fit_tree_of_stream(learning: Learning, num_draws: int, progress: Reporter) -> tuple[xr.DataTree, Mixture]:
    """The tree of a fit, whose data are a uniform sample of the stream's rows, and the model that was fitted."""
    table = Table(learning.sample, learning.schema.columns, "stream")
    weights = weight_prior(_weights_name(learning.process), **_weights_options(learning.process))
    key_draw, keys = _keys_of(np.uint32(learning.options.seed))
    with learning.schema.precision():
        model = Mixture(learning.family, weights, learning.partitions.most_memories + 1, learning.prior)
        prepared = Prepared.of(table, learning.units)
        result = draw_from_partitions(key_draw, model, learning, prepared.x, num_draws)
        attributes = _attributes(learning, model, table, result)
        tree: xr.DataTree = fit_tree(model, prepared, result, keys, attributes, progress)
    tree["observed_data"].attrs["sample"] = (
        f"{table.num_data} of the {learning.num_data} rows of the stream, drawn uniformly"
    )
    return tree, model


@compiled_quickly()
def _keys_of(seed: np.uint32 | jax.Array) -> tuple[jax.Array, KeysToRead]:
    """For the draws, and for what is drawn to read them."""
    key_draw, key_read = jax.random.split(jax.random.fold_in(jax.random.key(seed), 2**31))
    return key_draw, keys_to_read(key_read)


def _weights_name(process: Process) -> str:
    """Weight prior of the fit: a process without a discount is a Dirichlet process."""
    return "pyp" if process.discount else "dp"


def _weights_options(process: Process) -> dict[str, Any]:
    return process._asdict() if process.discount else {"alpha": process.alpha}


def _command(learning: Learning) -> dict[str, Any]:
    """The words of the command that repeats the stream, by groups that stay together, and what it cannot give."""
    options = learning.options
    values = options.changed() | {
        "family": options.attributes()["family"],
        "alpha": options.alpha,
        "discount": options.discount,
        "seed": int(options.seed),
    }
    flags = command_words(StreamOptions, values)
    groups = [["probam", "stream", "DATA"], *flags.groups]
    groups += [["--float32"]] if learning.schema.dtype == np.float32 else []
    return {"groups": [*groups, ["-o", "fit.nc"]], "in_python": flags.in_python}


def _attributes(learning: Learning, model: Mixture, table: Table, result: EngineResult) -> dict[str, Any]:
    """Root attributes of the fit."""
    kept, process = learning.options.attributes(), learning.process
    weights = _weights_name(process)
    description = describe(model, table, weights, process.alpha, process.discount, streamed=learning.num_data)
    return {
        "schema": SCHEMA,
        "probam_version": version("probam"),
        "family": kept["family"],
        "family_options": {"covariance": kept["covariance"]} if kept["covariance"] else {},
        "weights": weights,
        "weights_options": _weights_options(process),
        "given_prior": texts_of_priors(learning.prior),
        "num_components": model.num_components,
        "engine": "stream",
        "engine_options": {name: kept[name] for name in _ENGINE_OPTIONS} | learning.options.change_attributes(),
        "status": result.status,
        "estimate": result.estimate,
        "command": _command(learning),
        "sampler": sampler_of(model, has_row_weights=False),
        "seed": kept["seed"],
        "dtype": str(learning.schema.dtype),
        "source": "stream",
        "standardised": int(kept["standardise"]),
        "normalised": int(kept["normalise"]),
        "num_streamed": learning.num_data,
        "model": f"{description}; {result.note}",
        "truncation": None,
        "versions": versions(),
    }
