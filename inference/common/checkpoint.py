"""A run on disk: its identity, how far each of its phases has come, and what they have so far.

An engine opens :class:`Saves` on the file, and each of its loops takes a :class:`Phase` of it, asks for what is there
and says after every chunk of steps what it has now. What is said is written every few seconds, and when the run ends,
is stopped or is interrupted. The file is NPZ without pickle, sealed, and its last two versions are kept
(:mod:`probam.data.rotation`). A run continues only from a file with the same description of everything that its result
depends on: engine, key, model, data, options, versions. Where several processes make one run, the first has the file
and tells the others what is in it as they begin.
"""

import hashlib
import io
import json
import os
import re
import weakref
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.distributions import Distribution
from numpyro.distributions.constraints import Constraint
from numpyro.distributions.transforms import Transform

from probam.data.rotation import Keeper
from probam.data.schema import SCHEMA, check_schema
from probam.errors import InputError, without_addresses
from probam.inference.common.processes import is_first, of_first

__all__ = ["Phase", "Saved", "Saves", "described", "identity_of", "unsaved"]

_FORMAT = "probam checkpoint"
"""What a file of another kind does not say; which version it has is in its key ``schema``."""

_DIGEST = re.compile(r"(.+) [0-9a-f]{32,}")
"""What something is, and a digest of it."""

_NOT_DENSITY = {"_validate_args"}
"""Fields of a distribution that do not change its density."""

_T = TypeVar("_T")

Grown = Mapping[str, np.ndarray]
"""What grows with the steps, by name; parts are joined along their second axis."""


@dataclass(frozen=True, eq=False)
class Saved(Generic[_T]):
    """How far a phase has come."""

    done: int
    """Steps done."""
    state: _T
    kept: dict[str, np.ndarray]
    """What has grown so far, by name."""
    ended: bool
    """Whether the phase has come to its end."""


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
        jax.random.wrap_key_data(jnp.asarray(leaf), impl=impl)
        if _is_key(template)
        else leaf
        if isinstance(template, np.ndarray)
        else jnp.asarray(leaf)
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
    return without_addresses(repr(value))


def _named(kind: str, parts: Mapping[Any, object]) -> str:
    return f"{kind}({', '.join(f'{name}={_words(parts[name])}' for name in sorted(parts))})"


def surroundings() -> dict[str, str]:
    """Versions, platform and precision, on which the last bits depend too."""
    versions = {name: version(name) for name in ("probam", "jax", "jaxlib", "numpyro")}
    return versions | {"platform": jax.default_backend(), "x64": str(jax.config.read("jax_enable_x64"))}


def identity_of(engine: str, key: jax.Array, model: object, x: object, options: Mapping[str, object]) -> dict[str, str]:
    """Everything that the numbers of a run depend on, in words.

    Args:
        engine: its name.
        key: random key of the run.
        model: the mixture.
        x: data in model units.
        options: by name; arrays are described by their digests.
    """
    words = f"{jax.random.key_impl(key)} {np.asarray(jax.random.key_data(key)).tolist()}"
    said = {
        name: described(value) if isinstance(value, np.ndarray | jax.Array) else str(value)
        for name, value in options.items()
    }
    own = {"engine": engine, "key": words, "model": described(model), "data": described(x)}
    return own | said | surroundings()


class _Progress(NamedTuple):
    """What is to be written of a phase."""

    done: int
    state: object
    kept: Sequence[Grown]
    ended: bool


class Saves:
    """The progress of one run on disk; as a context it closes itself.

    Args:
        path: the file; None keeps nothing.
        identity: description of the run, see :func:`identity_of`; a file with another is refused.
        together: whether several processes make this run, all of which are here with the same path.

    Raises:
        InputError: where no file can be written at ``path``, another run writes it, or the file there is damaged, no
            checkpoint, or one of another run.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        identity: Mapping[str, str] | None = None,
        *,
        together: bool = False,
    ) -> None:
        self._identity = dict(identity or {})
        self._begun: Counter[str] = Counter()
        self.place = None if path is None else os.fspath(path)
        """Name of the file; None where nothing is kept."""
        self._keeper = None if path is None or (together and not is_first()) else Keeper(path)
        self._progress: dict[str, _Progress] = (self._keeper.read(self._read) if self._keeper else None) or {}
        if path is not None and together:
            self._progress = self._of_first(self._progress)

    def __enter__(self) -> "Saves":
        return self

    def __exit__(self, *_: object) -> None:
        if self._keeper is not None:
            self._keeper.close()

    def phase(self, name: str) -> "Phase":
        """The next phase of this name. A run that is repeated has the same phases in the same order."""
        self._begun[name] += 1
        return Phase(self, f"{name} {self._begun[name]}")

    def found(self, name: str) -> _Progress | None:
        """What is known of the phase with this name."""
        return self._progress.get(name)

    def keep(self, name: str, progress: _Progress) -> None:
        """Replace what is known of a phase; it is written where that is due."""
        if self._keeper is not None:
            self._progress = self._progress | {name: progress}  # a writer in another thread has the one before
            self._keeper.put(partial(_write, self._identity, self._progress))

    def _of_first(self, own: dict[str, _Progress]) -> dict[str, _Progress]:
        """The phases in the file of the first process, on all of them."""
        stream = io.BytesIO()
        if is_first():
            _put(self._identity, own, stream)
        try:
            return _phases(*_taken(io.BytesIO(of_first(stream.getvalue()))))
        except BaseException:
            self.__exit__()
            raise

    def _read(self, path: Path) -> dict[str, _Progress]:
        """The phases in a file, which is whole."""
        try:
            with path.open("rb") as stream:
                head, arrays = _taken(stream)
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"checkpoint: {self.place} is not the checkpoint of a fit; name another file") from error
        check_schema(head, f"checkpoint: {self.place}")
        self._check_identity(head["identity"])
        return _phases(head, arrays)

    def _check_identity(self, theirs: Mapping[str, str]) -> None:
        """Raise where the file is of another run."""
        differ = [name for name, ours in self._identity.items() if theirs.get(name) != ours]
        if differ:
            differences = "; ".join(
                _difference(name, theirs.get(name, "nothing"), self._identity[name]) for name in differ
            )
            raise InputError(
                f"checkpoint: {self.place} is of another run: {differences}. Continue with the options it was made "
                "with, delete it to start again, or name another file"
            )


def _write(identity: Mapping[str, str], phases: Mapping[str, _Progress], path: Path) -> None:
    """Write everything to a file."""
    with path.open("wb") as stream:
        _put(identity, phases, stream)


def _put(identity: Mapping[str, str], phases: Mapping[str, _Progress], stream: IO[bytes]) -> None:
    arrays: dict[str, np.ndarray] = {}
    said = []
    for i, (name, progress) in enumerate(phases.items()):
        state, kept = packed(progress.state), _joined(progress.kept)
        arrays |= {f"{i}_state_{j}": leaf for j, leaf in enumerate(state)}
        arrays |= {f"{i}_kept_{key}": values for key, values in kept.items()}
        counts = {"name": name, "done": progress.done, "ended": progress.ended}
        said.append(counts | {"states": len(state), "kept": list(kept)})
    head = {"format": _FORMAT, "schema": SCHEMA, "identity": identity, "phases": said}
    np.savez(stream, allow_pickle=False, head=np.array(json.dumps(head)), **arrays)


def _taken(stream: IO[bytes]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Inverse of :func:`_put`: the head and the arrays."""
    with np.load(stream, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    return json.loads(str(arrays["head"])), arrays


def _phases(head: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> dict[str, _Progress]:
    return {
        said["name"]: _Progress(
            said["done"],
            [arrays[f"{i}_state_{j}"] for j in range(said["states"])],
            [{key: arrays[f"{i}_kept_{key}"] for key in said["kept"]}],
            said["ended"],
        )
        for i, said in enumerate(head["phases"])
    }


unsaved = Saves()
"""Keeps nothing."""


class Phase:
    """One loop of a run: what is there of it already, and what it has now."""

    def __init__(self, saves: Saves, name: str) -> None:
        self._saves, self._name = saves, name

    @property
    def has_begun(self) -> bool:
        """Whether something of it is there, so that what leads to it need not be done again."""
        return self._saves.found(self._name) is not None

    def resumed(self, like: _T, impl: Hashable = None) -> Saved[_T] | None:
        """What is there of this phase; None where it has not begun.

        Args:
            like: a state, of which structure, shapes and dtypes matter. Arrays of NumPy stay such.
            impl: kind of the random keys in it.
        """
        progress = self._saves.found(self._name)
        if progress is None:
            return None
        state = unpacked(packed(progress.state), like, impl)
        return Saved(progress.done, state, _joined(progress.kept), progress.ended)

    def save(self, done: int, state: object, kept: Sequence[Grown] = (), *, ended: bool = False) -> None:
        """What the phase has now; it is written where that is due.

        Args:
            done: steps done.
            state: what the next step needs; it must not be changed in place.
            kept: what has grown so far, in parts.
            ended: whether it has come to its end.
        """
        self._saves.keep(self._name, _Progress(done, state, tuple(kept), ended))

    def once(self, make: Callable[[], _T], like: _T) -> _T:
        """What ``make`` returns, or what it returned before: for a phase of one step."""
        saved = self.resumed(like)
        if saved is not None:
            return saved.state
        made = make()
        self.save(1, made, ended=True)
        return made


def _joined(parts: Sequence[Grown]) -> dict[str, np.ndarray]:
    """The parts of what grows, joined."""
    names = parts[0] if parts else ()
    return {name: _whole([part[name] for part in parts]) for name in names}


def _whole(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.asarray(parts[0]) if len(parts) == 1 else np.concatenate(parts, axis=1)


def _difference(name: str, theirs: str, ours: str) -> str:
    """The difference in words, and where that is not an option of the run, what to do; digests are not shown."""
    if name == "devices" and theirs.isdigit():
        return (
            f"the chains ran on {theirs} of JAX's devices, on which their bits depend, and would run on {ours} now "
            f"(XLA_FLAGS=--xla_force_host_platform_device_count={theirs} gives a CPU as many)"
        )
    if max(len(theirs), len(ours)) > 32:  # digests
        before, now = _DIGEST.fullmatch(theirs), _DIGEST.fullmatch(ours)
        if before is None or now is None or before[1] == now[1]:
            return f"{name} differs"
        theirs, ours = before[1], now[1]
    return f"{name} is {theirs} in the file and {ours} in this run"
