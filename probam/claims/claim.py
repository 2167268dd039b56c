"""Claims: what a paper prints, what is true, and the numbers that distinguish them.

A claim is one decorated function. Its positional arguments are the inputs (queries, memories, beta, ...), its
keyword-only arguments are the *pieces* of the statement (a constant, a convention, one side of the equation), and it
returns the error of the statement. The exact form, the form that the paper prints and the mutations are the same
function with other pieces, and stand next to each other in the decorator::

    @register(id="A2", ..., inputs=euclidean_bank, cases=(ordinary("plain"), extreme("hot", beta=1e-6)),
              exact={"variance": lambda beta: 1 / (2 * beta)},
              printed={"variance": lambda beta: 2 / beta},
              mutations={"beta doubled": {"variance": lambda beta: 1 / (4 * beta)}})
    def covariance(queries, memories, beta, *, variance: Piece):
        ...
        return relative_error(left, right)

``exact`` gives every piece; ``printed`` and each of the mutations give only the pieces that they exchange. Running the
printed pieces shows that the printed form fails; running the mutations shows that the claim can fail. The terms are
explained in ``docs/claims.md``.
"""

import importlib
import pkgutil
import re
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Concatenate, Literal, NamedTuple, ParamSpec, TypeVar

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
    "Piece",
    "Pieces",
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
"""What a statement asserts of its two sides; ``docs/claims.md`` says how the error is measured for each."""

Inputs = Mapping[str, Any]
"""Name -> array (or number, for a claim that is not traced): the positional arguments of a claim's function."""

Piece = Callable[..., Array]
"""A piece of a statement that is a function of arrays; other pieces are numbers, names or functions on the host."""

Pieces = Mapping[str, Any]
"""Name -> piece: the keyword-only arguments of a claim's function, all of them or the ones that are exchanged."""

EXACT, PRINTED = "exact", "printed"
"""Names of the forms of a statement that are not mutations."""

SINGLE = 1e-5
"""Relative error of values and gradients that passes in float32, unless a claim says otherwise."""


@dataclass(frozen=True)
class Case:
    """One setting of the inputs of a claim."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    is_extreme: bool = False
    tolerance: float | None = None
    """Bound of this case; ``None``: that of the claim."""


def ordinary(name: str, **settings: Any) -> Case:
    """Case that is judged by the ordinary bound of the claim; the settings go to its input generator."""
    return Case(name, settings)


def extreme(name: str, *, tolerance: float | None = None, **settings: Any) -> Case:
    """Case that is judged by the bound of the claim for extreme inputs, or by ``tolerance``."""
    return Case(name, settings, is_extreme=True, tolerance=tolerance)


@dataclass(frozen=True, eq=False)
class Claim:
    """One checkable statement of a paper: its words, its pieces, the inputs it is tried on, and its bounds."""

    function: Callable[..., Any]
    """Inputs and pieces by name -> error: a number, or an array of which the largest entry counts.

    The error is the norm-wise relative error of the statement; for the relation ``at most`` the relative amount by
    which the bound is broken, for ``count`` the number of wrong counts. What is not finite counts as infinite.
    """
    _: KW_ONLY
    id: str
    """An entry, or an entry, a dot and the name of a part (``A3.weighted``)."""
    source: str
    """The paper and the equation or section."""
    title: str
    """The claim in at most 80 characters."""
    statement: str
    """The exact statement, in one line of plain text."""
    latex: str
    """The exact statement as an equation."""
    printed_statement: str
    """What the paper prints instead, or that it prints nothing."""
    verdict: Verdict
    """On the printed statement."""
    relation: Relation
    constant: str = "none"
    """The constant of the exact statement, in words or symbols."""
    inputs: Callable[..., Inputs]
    """``inputs(key, **case.settings)`` draws the inputs of a case."""
    cases: tuple[Case, ...]
    tolerance: float
    """Largest error that passes on ordinary cases."""
    tolerance_extreme: float | None = None
    """The same for extreme cases; ``None``: as for ordinary ones."""
    tolerance_single: float = SINGLE
    """The same in float32, on ordinary cases, where that is not the smaller bound."""
    exact: Pieces
    """All pieces of the exact statement."""
    printed: Pieces | None = None
    """The pieces that the paper prints otherwise; ``None`` where the printed form is not tried."""
    printed_exceeds: float = 0.0
    """The printed form counts as failing where its error is larger than this."""
    mutations: Mapping[str, Pieces]
    """Name -> pieces of a wrong statement that is close to the exact one; its error must exceed the tolerance."""
    jit: bool = True
    """Whether the function is compiled; ``False`` for one that leaves JAX, which is then tried in float64 only."""
    slow: bool = False
    """Statistical or long: left out unless all claims, or this one, are asked for."""

    def __post_init__(self) -> None:
        for form, pieces in self.forms.items():
            for name in set(pieces) - set(self.exact):
                raise ValueError(f"claim {self.id}, {form}: {name} is not among the exact pieces")

    @property
    def entry(self) -> str:
        """Entry of the list of claims that this is a part of (``A3`` of ``A3.weighted``)."""
        return self.id.partition(".")[0]

    @property
    def forms(self) -> dict[str, Pieces]:
        """Name -> exchanged pieces: the exact form (none), the printed form where there is one, and the mutations."""
        printed = {} if self.printed is None else {PRINTED: self.printed}
        return {EXACT: {}, **printed, **self.mutations}

    @property
    def wrong_forms(self) -> list[str]:
        """Names of the forms that must fail: the printed one, where its pieces are given, and the mutations."""
        return [form for form in self.forms if form != EXACT]

    def error(self, inputs: Inputs, form: str = EXACT) -> float:
        """Error of one form of the statement on these inputs, infinite where it is not finite."""
        error = np.max(np.asarray(self._programs[form](**inputs), dtype=np.float64))
        return float(error) if np.isfinite(error) else float("inf")

    @cached_property
    def _programs(self) -> dict[str, Callable[..., Any]]:
        functions = {form: partial(self.function, **{**self.exact, **pieces}) for form, pieces in self.forms.items()}
        if not self.jit:
            return dict(functions)
        return {form: jax.jit(one, compiler_options=compiler_options()) for form, one in functions.items()}

    def bound(self, case: Case) -> float:
        """Largest error that passes on ``case``."""
        if case.tolerance is not None:
            return case.tolerance
        if case.is_extreme and self.tolerance_extreme is not None:
            return self.tolerance_extreme
        return self.tolerance

    def in_single(self) -> "Claim":
        """The claim as it is tried in float32: ordinary cases only, each with the bound of single precision."""
        bound = max(self.tolerance, self.tolerance_single)
        return replace(self, cases=tuple(replace(case, tolerance=bound) for case in self.cases if not case.is_extreme))


class Certificate(NamedTuple):
    """The result of running one claim.

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


_CLAIMS: dict[str, Claim] = {}

_F = TypeVar("_F", bound=Callable[..., Any])
_P = ParamSpec("_P")


def _decorator(make: Callable[Concatenate[Callable[..., Any], _P], Claim]) -> Callable[_P, Callable[[_F], _F]]:
    """The decorator with the fields of a claim as its arguments."""

    def fields(*args: _P.args, **kwargs: _P.kwargs) -> Callable[[_F], _F]:
        def file(function: _F) -> _F:
            claim = make(function, *args, **kwargs)
            if claim.id in _CLAIMS:
                raise ValueError(f"claim {claim.id} is registered twice")
            _CLAIMS[claim.id] = claim
            return function

        return file

    return fields


register = _decorator(Claim)
"""Decorator: file a function as a claim. The arguments are the fields of :class:`Claim`, all by name."""


def _order(claim_id: str) -> tuple[tuple[int, str], ...]:
    parts = re.findall(r"\d+|\D+", claim_id)
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in parts)


def registry() -> dict[str, Claim]:
    """All claims by id, in the order of the entries. Imports every module of :mod:`probam.claims` to find them."""
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
    """The claims of these names, in the order of the registry.

    Args:
        names: ids and entries; an entry (``A3``) selects all its parts. ``None``: all quick claims.
        slow: with ``names=None``, include the slow claims.

    Raises :class:`probam.errors.InputError` for a name that selects nothing.
    """
    known = registry()
    if names is None:
        return [one for one in known.values() if slow or not one.slow]
    for name in names:
        if not any(name in (one.id, one.entry) for one in known.values()):
            entries = dict.fromkeys(one.entry for one in known.values())
            raise InputError(f"claim: expected an entry ({', '.join(entries)}) or one of its parts; got {name!r}")
    return [one for one in known.values() if one.id in names or one.entry in names]


def relative_error(left: ArrayLike, right: ArrayLike, scale: ArrayLike = 0.0) -> Float[Array, ""]:
    r"""Norm-wise relative error of two sides; 0 where both are zero.

    .. math:: \lVert a - b \rVert_\infty / \max(\lVert a \rVert_\infty, \lVert b \rVert_\infty, s)

    Args:
        left, right: the two sides.
        scale: a lower bound s of the denominator, or an array whose largest entry is that: the size of the terms of
            which the sides are differences. It keeps rounding errors small where the sides themselves vanish.
    """
    a, b = jnp.asarray(left), jnp.asarray(right)
    difference = jnp.max(jnp.abs(a - b))
    size = _size(a, b, scale)
    return jnp.where(difference == 0, 0.0, difference / jnp.where(size > 0, size, 1.0))


def excess(left: ArrayLike, right: ArrayLike, scale: ArrayLike = 0.0) -> Float[Array, ""]:
    r"""Largest relative amount by which ``left`` exceeds ``right``, 0 where it nowhere does; scale as above.

    .. math:: \max(a - b, 0)_\infty / \max(\lVert a \rVert_\infty, \lVert b \rVert_\infty, s)
    """
    a, b = jnp.asarray(left), jnp.asarray(right)
    over = jnp.max(a - b)
    size = _size(a, b, scale)
    return jnp.where(over <= 0, 0.0, over / jnp.where(size > 0, size, 1.0))


def _size(a: Array, b: Array, scale: ArrayLike) -> Float[Array, ""]:
    """The largest entry of two sides and a scale, in the precision of the sides."""
    terms = (a, b, jnp.asarray(scale, jnp.result_type(a, b, float)))
    return jnp.max(jnp.stack([jnp.max(jnp.abs(term)) for term in terms]))
