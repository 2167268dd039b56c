"""A run of NUTS on disk: its progress, and its identity.

One NPZ file, without pickle: the arrays of the sampler's states, the draws so far, the number of steps done, and a
description of everything that the result depends on (key, model, data, options, versions). A run continues only from a
file with the same description.
"""

import hashlib
import json
import os
import re
import weakref
import zipfile
import zlib
from collections.abc import Hashable, Mapping
from dataclasses import fields, is_dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.distributions import Distribution
from numpyro.distributions.constraints import Constraint
from numpyro.distributions.transforms import Transform

from probam.data.schema import SCHEMA, check_schema
from probam.data.writing import check_writable, write_atomically
from probam.errors import InputError

__all__ = ["Checkpoint", "Saved", "described", "packed", "surroundings", "unpacked"]

_FORMAT = "probam NUTS checkpoint 1"
"""What a file of another kind does not say; which version it has is in its key ``schema``."""

_NOT_DENSITY = {"_validate_args"}
"""Fields of a distribution that do not change its density."""

_T = TypeVar("_T")


class Saved(NamedTuple):
    """Progress of a run: steps of each chain (warm-up included), states, draws (C, S, ...) by name."""

    done: int
    state: list[np.ndarray]
    kept: dict[str, np.ndarray]


def _is_key(leaf: Any) -> bool:
    return bool(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key))


def packed(tree: object) -> list[np.ndarray]:
    """The leaves as plain arrays, random keys as their data."""
    return [np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf) for leaf in jax.tree.leaves(tree)]


def unpacked(leaves: list[np.ndarray], like: _T, impl: Hashable) -> _T:
    """Inverse of :func:`packed`: a tree of the structure, shapes and dtypes of ``like``, its keys of kind ``impl``."""
    expected, structure = jax.tree.flatten(like)
    if len(expected) != len(leaves):
        raise InputError(f"checkpoint: expected {len(expected)} arrays of state; got {len(leaves)}; start again")
    arrays = [
        jax.random.wrap_key_data(jnp.asarray(leaf), impl=impl) if _is_key(template) else jnp.asarray(leaf)
        for leaf, template in zip(leaves, expected, strict=True)
    ]
    for leaf, template in zip(arrays, expected, strict=True):
        if leaf.shape != template.shape or leaf.dtype != template.dtype:
            raise InputError(
                f"checkpoint: expected an array of shape {template.shape} and type {template.dtype} in the state; "
                f"got {leaf.shape} and {leaf.dtype}; start again"
            )
    tree: _T = jax.tree.unflatten(structure, arrays)
    return tree


def described(value: object) -> str:
    """A name for a model or for data, the same in every process: its type and a digest of its contents.

    NumPyro's own flattening of a distribution follows the order of a set, which differs between processes.
    """
    kind = type(value).__name__
    if isinstance(value, np.ndarray | jax.Array):
        kind = f"{value.dtype}{list(value.shape)}"
    return f"{kind} {hashlib.sha256(_words(value).encode()).hexdigest()[:32]}"


def _words(value: object) -> str:
    """The contents of a value, by name, in a fixed order."""
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        array = np.ascontiguousarray(value)
        return f"{array.dtype.str}{np.shape(value)}{hashlib.sha256(array.tobytes()).hexdigest()}"
    if isinstance(value, Mapping):
        return _named("mapping", value)
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_words, value))}]"
    if isinstance(value, set | frozenset):
        return f"{{{', '.join(sorted(map(_words, value)))}}}"
    if isinstance(value, Distribution):
        names = {*value.gather_pytree_data_fields(), *value.gather_pytree_aux_fields(), "_batch_shape", "_event_shape"}
        return _named(type(value).__qualname__, {name: vars(value).get(name) for name in names - _NOT_DENSITY})
    if is_dataclass(value):
        return _named(type(value).__qualname__, {field.name: getattr(value, field.name) for field in fields(value)})
    if isinstance(value, Transform | Constraint):
        parts = {name: part for name, part in vars(value).items() if not isinstance(part, weakref.ref)}
        return _named(type(value).__qualname__, parts)
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))  # addresses differ between processes


def _named(kind: str, parts: Mapping[Any, object]) -> str:
    return f"{kind}({', '.join(f'{name}={_words(parts[name])}' for name in sorted(parts))})"


def surroundings() -> dict[str, str]:
    """Versions, platform and precision, on which the last bits depend too."""
    versions = {name: version(name) for name in ("probam", "jax", "jaxlib", "numpyro")}
    return versions | {"platform": jax.default_backend(), "x64": str(jax.config.read("jax_enable_x64"))}


class Checkpoint:
    """The file of one run.

    Args:
        path: where it is, or will be written.
        identity: description of the run; a file with another is refused.

    Raises:
        InputError: where no file can be written at ``path``.
    """

    def __init__(self, path: str | os.PathLike[str], identity: dict[str, str]) -> None:
        self.path = Path(path)
        self.identity = identity
        check_writable(path)

    def write(self, saved: Saved) -> None:
        """Replace the file atomically."""
        arrays = {f"state_{i}": leaf for i, leaf in enumerate(saved.state)}
        arrays |= {f"draws_{name}": values for name, values in saved.kept.items()}
        head = {
            "format": _FORMAT,
            "schema": SCHEMA,
            "done": saved.done,
            "states": len(saved.state),
            "identity": self.identity,
        }
        with write_atomically(self.path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, allow_pickle=False, head=np.array(json.dumps(head)), **arrays)

    def read(self) -> Saved | None:
        """The progress written last; None where there is no file.

        Raises:
            InputError: for a file that is damaged, no checkpoint, or of another run.
        """
        if not self.path.exists():
            return None
        damaged = (
            f"checkpoint: {self.path} is not a complete checkpoint of NUTS; delete it to start again, "
            "or name another file"
        )
        try:
            with self.path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            head = json.loads(str(arrays.pop("head")))
            kind = head["format"]
            theirs: dict[str, str] = head["identity"]
            state = [arrays.pop(f"state_{i}") for i in range(int(head["states"]))]
            done = int(head["done"])
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            EOFError,
            zipfile.BadZipFile,
            zlib.error,
        ) as error:
            raise InputError(damaged) from error
        if kind != _FORMAT:
            raise InputError(f"checkpoint: expected {_FORMAT!r}; got {kind!r} in {self.path}; start again")
        check_schema(head, f"checkpoint: {self.path}")
        differ = [name for name, ours in self.identity.items() if theirs.get(name) != ours]
        if differ:
            differences = "; ".join(
                _difference(name, theirs.get(name, "nothing"), self.identity[name]) for name in differ
            )
            raise InputError(
                f"checkpoint: {self.path} is of another run: {differences}. Continue with the options it was made "
                "with, delete it to start again, or name another file"
            )
        return Saved(done, state, {name.removeprefix("draws_"): values for name, values in arrays.items()})


def _difference(name: str, theirs: str, ours: str) -> str:
    """The difference in words, and where that is not an option of the run, what to do; digests are not shown."""
    if name == "devices" and theirs.isdigit():
        return (
            f"the chains ran on {theirs} of JAX's devices, on which their bits depend, and would run on {ours} now "
            f"(XLA_FLAGS=--xla_force_host_platform_device_count={theirs} gives a CPU as many)"
        )
    if max(len(theirs), len(ours)) > 32:  # digests
        return f"{name} differs"
    return f"{name} is {theirs} in the file and {ours} in this run"
