"""A stream on disk: every number that the next datum needs, in the NetCDF group ``stream`` (docs/streaming.md)."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from importlib.metadata import version
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from probam.conjugacy.pairs import ConjugatePair
from probam.data.schema import SCHEMA
from probam.fits.choices import check_precision
from probam.fits.migration import migrated
from probam.inference.stream.particles import Particles
from probam.inference.stream.state import StreamState
from probam.reports.checked import damaged, faults_of_attributes
from probam.reports.tree import read_tree, write_tree
from probam.streams.options import StreamOptions
from probam.streams.schema import Schema

__all__ = ["Learned", "Saved", "learned_arrays", "read_stream", "refill", "stream_group", "stream_tree", "write_stream"]

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
    taken: str
    """Of a checkpoint, what it has learned of its source (:mod:`probam.streams.checkpoint`); empty for others."""


def learned_arrays(learned: Learned[Any]) -> dict[str, np.ndarray]:
    """The leaves of everything learned, numbered in order; random keys as their key data."""
    trees = vars(_plain(learned, jax.random.key_data))
    return {
        f"{name}_{i}": np.asarray(leaf) for name, tree in trees.items() for i, leaf in enumerate(jax.tree.leaves(tree))
    }


def refill(learned: Learned[_Particles], arrays: Mapping[str, np.ndarray], path: str) -> Learned[_Particles]:
    """The same with the numbers that were saved, bit for bit.

    Raises :class:`probam.errors.InputError` where some are missing or are no such numbers.
    """
    trees = vars(_plain(learned, jax.random.key_data))
    filled: Learned[_Particles] = Learned(**{name: _refilled(tree, arrays, name, path) for name, tree in trees.items()})
    _check_state(filled.state, path)
    if filled.particles is not None:
        _check_state(filled.particles.states, path)
    return _plain(filled, jax.random.wrap_key_data)


def _plain(learned: Learned[_Particles], change: Callable[[jax.Array], jax.Array]) -> Learned[_Particles]:
    """The same with its random keys converted between JAX's own type and the numbers that a file can hold."""
    state, particles = learned.state, learned.particles
    if particles is not None:
        states = particles.states
        particles = particles._replace(states=states._replace(key=change(states.key)))
    return replace(learned, state=state._replace(key=change(state.key)), particles=particles)


def _refilled(tree: Any, arrays: Mapping[str, np.ndarray], name: str, path: str) -> Any:
    """A pytree of the same structure with the leaves that were saved under ``name``; room for memories may differ."""
    leaves, structure = jax.tree.flatten(tree)
    saved = [_array(arrays, f"{name}_{i}", np.ndim(leaf), path) for i, leaf in enumerate(leaves)]
    for i, (leaf, array) in enumerate(zip(leaves, saved, strict=True)):
        has_one_shape = name == "pair" or leaf.dtype == np.uint32  # the others have room for more or fewer memories
        first = 0 if has_one_shape else max(leaf.ndim - 1, 1)
        if array.dtype != leaf.dtype or array.shape[first:] != leaf.shape[first:]:
            raise damaged(path, f"stream/{name}_{i} is no array of this stream")
    return jax.tree.unflatten(structure, [jnp.asarray(array) for array in saved])


def _array(arrays: Mapping[str, np.ndarray], name: str, ndim: int, path: str) -> np.ndarray:
    """An array of the file, which must have this number of dimensions."""
    if name not in arrays or arrays[name].ndim != ndim:
        raise damaged(path, f"the group stream lacks the array {name} of {ndim} dimensions")
    return arrays[name]


def _check_state(state: StreamState, path: str) -> None:
    """Raise where arrays of the memories have different lengths, or memories are not as many as they are said to be."""
    ident = np.asarray(state.ident)
    slots = ident.shape
    of_memories = jax.tree.leaves((state.totals, state.low, state.known, state.born, state.last))
    if any(leaf.shape[: len(slots)] != slots for leaf in of_memories):
        raise damaged(path, "the arrays of the stream's memories have different lengths")
    if not np.array_equal((ident >= 0).sum(axis=-1), state.size) or np.any(
        ident >= np.asarray(state.created)[..., None]
    ):
        raise damaged(path, "the memories of the stream are not as many as it says")


def stream_group(arrays: Mapping[str, np.ndarray], attributes: Mapping[str, Any]) -> xr.Dataset:
    """The arrays in a form that NetCDF can hold; empty ones are left out."""
    variables = {
        name: (tuple(f"{name}_{axis}" for axis in range(array.ndim)), array)
        for name, array in arrays.items()
        if array.size
    }
    return xr.Dataset(variables, attrs={**attributes, "state": ", ".join(StreamState._fields)})


def stream_tree(group: xr.Dataset, **attributes: str) -> xr.DataTree:
    """The group ``stream`` as a file of its own, with these attributes at its root."""
    marks = {"schema": SCHEMA, "probam_version": version("probam"), "kind": "stream", **attributes}
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=marks), "stream": group})


def write_stream(path: str | os.PathLike[str], group: xr.Dataset) -> None:
    """Write the group ``stream`` alone as NetCDF4, completely or not at all."""
    write_tree(stream_tree(group), path)


def read_stream(path: str | os.PathLike[str]) -> Saved:
    """The group ``stream`` of the file of a stream or of a fit.

    Raises :class:`probam.errors.InputError` for a file that is missing or damaged, holds no stream or one of a layout
    that cannot be read, or needs a precision that is not turned on.
    """
    source = os.fspath(path)
    tree = migrated(read_tree(path, groups=("stream",)), source)
    group = tree["stream"].to_dataset()
    _check_attributes(group.attrs, source)
    arrays = {str(name): np.asarray(group[name].values) for name in group.data_vars}
    columns, dtype = tuple(json.loads(group.attrs["columns"])), group.attrs["dtype"]
    options = json.loads(group.attrs["options"])
    saved = Saved(
        options=options,
        schema=Schema(columns, np.dtype(dtype), options.get("normalise", False)) if dtype else None,
        seconds=float(group.attrs["seconds"]),
        known={name.removeprefix("known_"): arrays[name] for name in arrays if name.startswith("known_")},
        arrays=arrays,
        taken=str(tree.attrs.get("taken", "")),
    )
    if saved.schema is not None:
        _check_rows(saved.schema, arrays, int(group.attrs["num_data"]), source)
        check_precision(saved.schema.dtype, "stream", source)
    return saved


def _check_attributes(attributes: Mapping[Any, Any], source: str) -> None:
    """Raise where an attribute of the group is absent or junk."""
    for fault in faults_of_attributes("stream", attributes):
        raise damaged(source, fault)
    if (attributes["dtype"] == "") != (attributes["num_data"] == 0):
        raise damaged(source, "the attribute dtype of the group stream is not that of its data")
    options = json.loads(attributes["options"])
    unknown = sorted(set(options) - {each.name for each in fields(StreamOptions)})
    if unknown or "family" not in options:
        raise damaged(source, f"the options of the stream {f'have {unknown[0]!r}' if unknown else 'lack the family'}")


def _check_rows(schema: Schema, arrays: Mapping[str, np.ndarray], num_data: int, source: str) -> None:
    """Raise where rows are missing, have other columns, or an array has NaN."""
    for name, array in arrays.items():
        is_rows = name in ("warm_rows", "waiting", "reservoir")
        if array.dtype.kind not in ("f" if is_rows else "fiub") or np.isnan(array).any():
            raise damaged(source, f"stream/{name} has something else than numbers")
    name = "warm_rows" if "state_0" in arrays or "warm_rows" in arrays else "waiting"
    first = _array(arrays, name, 2, source) if num_data else np.zeros((0, len(schema.columns)))
    if first.shape[1] != len(schema.columns):
        raise damaged(source, f"stream/{name} has {first.shape[1]} columns; expected {len(schema.columns)}")
    if name == "waiting" and len(first) != num_data:
        raise damaged(source, f"stream/waiting has {len(first)} rows; expected {num_data}")
    if name == "warm_rows":
        _check_kept(arrays, len(schema.columns), num_data, source)


def _check_kept(arrays: Mapping[str, np.ndarray], num_features: int, num_data: int, source: str) -> None:
    """Raise where the sample of the rows or the growth curve is not that of so many data."""
    sample, index = (_array(arrays, name, ndim, source) for name, ndim in (("reservoir", 2), ("reservoir_index", 1)))
    if sample.shape != (len(index), num_features) or np.any((index < 0) | (index >= num_data)):
        raise damaged(source, "stream/reservoir is not a sample of the rows")
    growth = [_array(arrays, f"growth_{name}", 1, source) for name in ("data", "memories", "log_predictive")]
    if len(set(map(len, growth))) > 1 or growth[0][-1] != num_data or np.any(np.diff(growth[0]) <= 0):
        raise damaged(source, "the growth curve of the stream is not one of its data")
    if "base_within" in arrays or "base_shape" in arrays:
        _array(arrays, "base_shape", 0, source)
        if "base_within" not in arrays or arrays["base_within"].shape not in ((), (num_features, num_features)):
            raise damaged(source, "stream/base_within is no width of a memory: a matrix of the features, or a number")
