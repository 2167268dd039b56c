"""A stream on disk: every number that the next datum needs, in the NetCDF group ``stream`` (docs/streaming.md)."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from probam.conjugacy.pairs import ConjugatePair
from probam.data.writing import write_atomically
from probam.errors import InputError
from probam.fits.choices import double_precision
from probam.inference.stream.particles import Particles
from probam.inference.stream.state import StreamState
from probam.reports.tree import read_tree, write_tree
from probam.streams.schema import Schema

__all__ = ["Learned", "Saved", "learned_arrays", "read_stream", "refill", "stream_group", "write_stream"]

_LAYOUT = 2
"""Version of the numbers that are kept of each memory; files of other layouts are refused."""


_Particles = TypeVar("_Particles", Particles, None)


@dataclass(frozen=True)
class Learned(Generic[_Particles]):
    """What changes along a stream, and the conjugate pair of its memories."""

    state: StreamState
    particles: _Particles  # None of a stream that is one partition
    pair: ConjugatePair


class Saved(NamedTuple):
    """Contents of a file."""

    options: dict[str, Any]
    schema: Schema | None  # None before the first data
    seconds: float
    known: dict[str, np.ndarray]
    arrays: dict[str, np.ndarray]


def learned_arrays(learned: Learned[Any]) -> dict[str, np.ndarray]:
    """The leaves of everything learned, numbered in order; random keys as their key data."""
    trees = vars(_plain(learned, jax.random.key_data))
    return {
        f"{name}_{i}": np.asarray(leaf) for name, tree in trees.items() for i, leaf in enumerate(jax.tree.leaves(tree))
    }


def refill(learned: Learned[_Particles], arrays: Mapping[str, np.ndarray], path: str) -> Learned[_Particles]:
    """The same with the numbers that were saved, bit for bit.

    Raises :class:`probam.errors.InputError` where some are missing.
    """
    trees = vars(_plain(learned, jax.random.key_data))
    try:
        filled: Learned[_Particles] = Learned(**{name: _refilled(tree, arrays, name) for name, tree in trees.items()})
    except KeyError as error:
        raise _other_version(path, f"lacks {error}") from error
    return _plain(filled, jax.random.wrap_key_data)


def _plain(learned: Learned[_Particles], change: Callable[[jax.Array], jax.Array]) -> Learned[_Particles]:
    """The same with its random keys converted between JAX's own type and the numbers that a file can hold."""
    state, particles = learned.state, learned.particles
    if particles is not None:
        states = particles.states
        particles = particles._replace(states=states._replace(key=change(states.key)))
    return replace(learned, state=state._replace(key=change(state.key)), particles=particles)


def _refilled(tree: Any, arrays: Mapping[str, np.ndarray], name: str) -> Any:
    """A pytree of the same structure with the leaves that were saved under ``name``."""
    leaves, structure = jax.tree.flatten(tree)
    return jax.tree.unflatten(structure, [jnp.asarray(arrays[f"{name}_{i}"]) for i in range(len(leaves))])


def stream_group(arrays: Mapping[str, np.ndarray], attributes: Mapping[str, Any]) -> xr.Dataset:
    """The arrays in a form that NetCDF can hold; empty ones are left out."""
    variables = {
        name: (tuple(f"{name}_{axis}" for axis in range(array.ndim)), array)
        for name, array in arrays.items()
        if array.size
    }
    return xr.Dataset(variables, attrs={**attributes, "state": ", ".join(StreamState._fields), "layout": _LAYOUT})


def write_stream(path: str | os.PathLike[str], group: xr.Dataset) -> None:
    """Write the group ``stream`` alone as NetCDF4, completely or not at all."""
    marks = xr.Dataset(attrs={"probam_version": version("probam"), "kind": "stream"})
    with write_atomically(path) as temporary:
        write_tree(xr.DataTree.from_dict({"/": marks, "stream": group}), temporary)


def read_stream(path: str | os.PathLike[str]) -> Saved:
    """The group ``stream`` of the file of a stream or of a fit.

    Raises :class:`probam.errors.InputError` for a file that is missing or damaged, holds no stream or one of another
    layout, or needs a precision that is not turned on.
    """
    group = read_tree(path, groups=("stream",))["stream"].to_dataset()
    if group.attrs.get("layout") != _LAYOUT:
        raise _other_version(path, "keeps its memories in another layout")
    arrays = {str(name): np.asarray(group[name].values) for name in group.data_vars}
    try:
        columns, dtype = tuple(json.loads(group.attrs["columns"])), group.attrs["dtype"]
        options = {"base": "prior"} | json.loads(group.attrs["options"])  # the first files name no base measure
        saved = Saved(
            options=options,
            schema=Schema(columns, np.dtype(dtype), options.get("normalise", False)) if dtype else None,
            seconds=float(group.attrs["seconds"]),
            known={name.removeprefix("known_"): arrays[name] for name in arrays if name.startswith("known_")},
            arrays=arrays,
        )
    except KeyError as error:
        raise _other_version(path, f"lacks {error}") from error
    if saved.schema is not None and saved.schema.dtype == np.float64 and not double_precision():
        raise InputError(
            f"{path}: this stream is in double precision; turn it on before loading: "
            "jax.config.update('jax_enable_x64', True)"
        )
    return saved


def _other_version(path: str | os.PathLike[str], what: str) -> InputError:
    return InputError(f"{os.fspath(path)}: this stream {what}; it was saved by another version of probam")
