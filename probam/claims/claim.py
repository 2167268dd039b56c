"""Claims: what a paper says, what is true, and how the two are told apart by numbers.

A claim is one decorated function. Its positional inputs are what the claim speaks about (queries,
memories, beta, ...), its keyword-only arguments are the *pieces* of the exact statement (a constant, a
convention, one side of the equation), and it returns the error of the statement. The form that the paper
prints and the mutations of the claim are the same function with one piece exchanged::

    @register(id="A2", ..., inputs=euclidean_bank, cases=(ordinary("plain"), extreme("hot", beta=1e-6)),
              printed_pieces={"variance": lambda beta: 2 / beta},
              mutations={"beta doubled": {"variance": lambda beta: 1 / (4 * beta)}})
    def covariance(queries, memories, beta, *, variance=lambda beta: 1 / (2 * beta)):
        ...
        return relative_error(left, right)

So a claim that cannot fail is found by running its mutations, and a misprint is shown failing by running
the printed pieces.
"""

import importlib
import pkgutil
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, Literal, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

import probam.claims
from probam.compiled import compiler_options
from probam.errors import InputError

__all__ = [
    "SINGLE",
    "Case",
    "Certificate",
    "Claim",
    "Inputs",
    "Relation",
    "Verdict",
    "claim",
    "excess",
    "extreme",
    "ordinary",
    "register",
    "registry",
    "relative_error",
    "select",
]

Verdict = Literal["EXACT", "CONST", "COND", "WRONG", "TYPO", "ILL", "NONE", "NEW"]
"""Of the printed form: holds; up to a constant; under a condition; false; misprinted; undefined; has no twin.

NEW: the paper prints nothing; the statement was derived for this registry.
"""

Relation = Literal["equal", "affine", "at most", "limit", "count"]
"""What is asserted of the two sides; for ``limit`` the error is taken against a stated rate."""

Inputs = Mapping[str, Any]
"""Name -> array (or number, for a claim that is not traced): the keywords of a claim's function."""


@dataclass(frozen=True)
class Case:
    """One setting of a claim's input generator."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    is_extreme: bool = False
    tolerance: float | None = None
    """Bound of this case alone, where it has its own."""


def ordinary(name: str, **settings: Any) -> Case:
    """Case held to the claim's ordinary bound."""
    return Case(name, settings)


def extreme(name: str, *, tolerance: float | None = None, **settings: Any) -> Case:
    """Case held to the claim's bound for extreme inputs, or to a bound of its own."""
    return Case(name, settings, is_extreme=True, tolerance=tolerance)


@dataclass(frozen=True, eq=False)
class Claim:
    """One checkable statement of a paper.

    ``error`` maps inputs to the norm-wise relative error of the exact statement (for ``at most`` to the
    relative amount by which the bound is broken, for ``count`` to the number of wrong counts);
    ``printed_error`` does the same for the form the paper prints, which is expected to exceed
    ``printed_exceeds``; each of ``mutations`` does it for the exact statement with one convention
    perturbed, and is expected to exceed the tolerance.
    """

    id: str
    source: str
    title: str
    statement: str
    latex: str
    printed: str
    verdict: Verdict
    relation: Relation
    constant: str
    inputs: Callable[[jax.Array, Case], Inputs]
    cases: tuple[Case, ...]
    error: Callable[[Inputs], float]
    tolerance: float
    tolerance_extreme: float
    printed_error: Callable[[Inputs], float] | None = None
    printed_exceeds: float = 0.0
    mutations: Mapping[str, Callable[[Inputs], float]] = field(default_factory=dict)
    is_slow: bool = False
    """Statistical or long: left out unless all claims, or this one, are asked for."""
    tolerance_single: float | None = None
    """Bound in float32 on ordinary inputs; ``None`` for what is stated in double precision only."""

    @property
    def entry(self) -> str:
        """Entry of the list of claims that this is a part of (``A3`` of ``A3.weighted``)."""
        return self.id.partition(".")[0]

    def bound(self, case: Case) -> float:
        """Largest error that passes on ``case``."""
        if case.tolerance is not None:
            return case.tolerance
        return self.tolerance_extreme if case.is_extreme else self.tolerance


class Certificate(NamedTuple):
    """What the court found on one claim.

    ``error``, ``tolerance`` and ``case`` belong to the case that came nearest to (or went furthest over)
    its bound; ``printed_error`` is the printed form's largest error over the ordinary cases.
    """

    claim: str
    error: float
    tolerance: float
    case: str
    printed_error: float | None
    passed: bool
    seconds: float
    note: str
    seed: int


SINGLE = 1e-5
"""Relative error of values and gradients that passes in float32, unless a claim says otherwise."""

_CLAIMS: dict[str, Claim] = {}


_F = TypeVar("_F", bound=Callable[..., Any])


def _evaluate(function: Callable[..., Any], inputs: Inputs) -> float:
    error = np.max(np.asarray(function(**inputs), dtype=np.float64))
    return float(error) if np.isfinite(error) else float("inf")


def register(
    *,
    id: str,
    source: str,
    title: str,
    statement: str,
    latex: str,
    printed: str,
    verdict: Verdict,
    relation: Relation,
    inputs: Callable[..., Inputs],
    cases: tuple[Case, ...],
    tolerance: float,
    tolerance_extreme: float | None = None,
    constant: str = "none",
    printed_pieces: Mapping[str, Any] | None = None,
    printed_exceeds: float = 0.0,
    mutations: Mapping[str, Mapping[str, Any]],
    jit: bool = True,
    slow: bool = False,
    tolerance_single: float = SINGLE,
) -> Callable[[_F], _F]:
    """Decorator: file a function as the claim ``id``.

    The function takes the inputs by name and the pieces of the statement as keyword-only arguments with
    defaults; it returns the error (a number or an array, of which the largest counts; anything that is not
    finite counts as infinite). ``inputs(key, **case.settings)`` draws the inputs. ``printed_pieces`` and
    the values of ``mutations`` exchange pieces. ``jit=False`` for functions that leave JAX; ``slow=True`` for
    statistical or long ones, which run when all claims are asked for. ``tolerance_single`` bounds the error of a
    traced claim in single precision, where that is not the bound of double precision anyway.
    """

    def file(function: _F) -> _F:
        if id in _CLAIMS:
            raise ValueError(f"claim {id} is registered twice")

        def error(pieces: Mapping[str, Any]) -> Callable[[Inputs], float]:
            exchanged = partial(function, **pieces)
            if not jit:
                return partial(_evaluate, exchanged)
            compiled = cache(lambda: jax.jit(exchanged, compiler_options=compiler_options()))
            return lambda inputs: _evaluate(compiled(), inputs)

        _CLAIMS[id] = Claim(
            id=id,
            source=source,
            title=title,
            statement=statement,
            latex=latex,
            printed=printed,
            verdict=verdict,
            relation=relation,
            constant=constant,
            inputs=lambda key, case: inputs(key, **case.settings),
            cases=cases,
            error=error({}),
            tolerance=tolerance,
            tolerance_extreme=tolerance if tolerance_extreme is None else tolerance_extreme,
            printed_error=None if printed_pieces is None else error(printed_pieces),
            printed_exceeds=printed_exceeds,
            mutations={name: error(pieces) for name, pieces in mutations.items()},
            is_slow=slow,
            tolerance_single=max(tolerance, tolerance_single) if jit else None,
        )
        return function

    return file


def _order(claim_id: str) -> tuple[tuple[int, str], ...]:
    parts = re.findall(r"\d+|\D+", claim_id)
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in parts)


def registry() -> dict[str, Claim]:
    """All claims by id, in the order of the entries; every module of this room and its sub-rooms is read for claims."""
    for module in pkgutil.walk_packages(probam.claims.__path__, "probam.claims."):
        importlib.import_module(module.name)
    return dict(sorted(_CLAIMS.items(), key=lambda item: _order(item[0])))


def claim(id: str) -> Claim:
    """The claim with exactly this id; raises :class:`probam.errors.InputError` for an unknown one."""
    known = registry()
    if id not in known:
        raise InputError(f"claim: expected one of {', '.join(known)}; got {id!r}")
    return known[id]


def select(names: tuple[str, ...] | list[str] | None, *, slow: bool = False) -> list[Claim]:
    """Claims called by id or by entry (``A3`` calls all its parts).

    ``None`` calls all quick ones, and with ``slow`` the slow ones too.

    Raises :class:`probam.errors.InputError` for a name that calls nothing.
    """
    known = registry()
    if names is None:
        return [one for one in known.values() if slow or not one.is_slow]
    for name in names:
        if not any(name in (one.id, one.entry) for one in known.values()):
            entries = dict.fromkeys(one.entry for one in known.values())
            raise InputError(f"claim: expected an entry ({', '.join(entries)}) or one of its parts; got {name!r}")
    return [one for one in known.values() if one.id in names or one.entry in names]


def relative_error(left: ArrayLike, right: ArrayLike, scale: ArrayLike = 0.0) -> Float[Array, ""]:
    r"""Norm-wise relative error of two sides, largest entry over largest entry.

    .. math:: \lVert a - b \rVert_\infty / \max(\lVert a \rVert_\infty, \lVert b \rVert_\infty, s)

    ``scale`` s is the size of the terms that were subtracted on the way, where the sides themselves may
    vanish. Two sides that are zero throughout agree.
    """
    a, b = jnp.asarray(left), jnp.asarray(right)
    difference = jnp.max(jnp.abs(a - b))
    size = jnp.maximum(jnp.maximum(jnp.max(jnp.abs(a)), jnp.max(jnp.abs(b))), jnp.max(jnp.abs(jnp.asarray(scale))))
    return jnp.where(difference == 0, 0.0, difference / jnp.where(size > 0, size, 1.0))


def excess(left: ArrayLike, right: ArrayLike, scale: ArrayLike = 0.0) -> Float[Array, ""]:
    r"""Relative amount by which ``left <= right`` is broken anywhere, 0 where it holds.

    .. math:: \max(a - b, 0)_\infty / \max(\lVert a \rVert_\infty, \lVert b \rVert_\infty, s)
    """
    a, b = jnp.asarray(left), jnp.asarray(right)
    over = jnp.max(a - b)
    size = jnp.maximum(jnp.maximum(jnp.max(jnp.abs(a)), jnp.max(jnp.abs(b))), jnp.max(jnp.abs(jnp.asarray(scale))))
    return jnp.where(over <= 0, 0.0, over / jnp.where(size > 0, size, 1.0))
