r"""Claim B8: exclusive or, stored as its four true rows in a dense memory of three signs.

Physics: :mod:`probam.energies.dense`. The other side is a formula for each state, and the truth table.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from probam.claims.claim import Piece, ordinary, register, relative_error
from probam.claims.inputs import Floats, all_states
from probam.dynamics.discrete import update
from probam.energies import dense

__all__: list[str] = []

_YANG = "Yang (2020), Large associative memory (slides on Krotov and Hopfield)"

_XOR = np.array([[-1.0, -1.0, -1.0], [-1.0, 1.0, 1.0], [1.0, -1.0, 1.0], [1.0, 1.0, -1.0]])
_DEGREES = range(1, 8)


def _xor(_key: jax.Array) -> dict[str, Floats]:
    return {"states": all_states(3), "memories": _XOR}


def _slide(degree: int, odd: Callable[[int], float] = lambda n: 3.0**n - 3) -> tuple[float, float]:
    """Constant and cubic part in the slide's form, with the C_n that are right for plain powers."""
    return (0.0, odd(degree)) if degree % 2 else (-(3.0**degree) - 3, 0.0)


@register(
    id="B8.rectified",
    source=f"{_YANG}, XOR problem",
    title="XOR with the rectified power of the slides",
    statement="E_n = -(3^n + 3)/2 + (3^n - 3)/2 s1 s2 s3 for all n >= 1; 8 states, n = 1..7",
    latex=r"E_n = -\tfrac{3^n + 3}{2} + \tfrac{3^n - 3}{2}\, s_1 s_2 s_3",
    printed_statement="0 for n = 1, C_n for even n, C_n s1 s2 s3 for odd n",
    verdict="COND",
    relation="equal",
    constant="(3^n + 3)/2 and (3^n - 3)/2",
    inputs=_xor,
    cases=(ordinary("8 states, n = 1..7"),),
    tolerance=1e-12,
    exact={"parts": lambda n: (-(3.0**n + 3) / 2, (3.0**n - 3) / 2), "rectified": True},
    printed={"parts": _slide},
    printed_exceeds=0.4,
    mutations={
        "plain powers": {"rectified": False},
        "sign flipped": {"parts": lambda n: (-(3.0**n + 3) / 2, -(3.0**n - 3) / 2)},
        "one constant": {"parts": lambda n: (-(3.0**n + 3) / 2, (3.0**n + 3) / 2)},
    },
)
@register(
    id="B8.plain",
    source=f"{_YANG}, XOR problem",
    title="XOR with the plain power",
    statement="E_1 = 0; E_n = (3^n - 3) s1 s2 s3 for odd n, -(3^n + 3) for even n: C_n is two constants",
    latex=r"E_n = (3^n - 3)\, s_1 s_2 s_3 \; (n \text{ odd}), \qquad -(3^n + 3) \; (n \text{ even})",
    printed_statement="the same form for rectified F_n, one C_n for both",
    verdict="COND",
    relation="equal",
    constant="3^n - 3 and -(3^n + 3)",
    inputs=_xor,
    cases=(ordinary("8 states, n = 1..7"),),
    tolerance=1e-12,
    exact={"parts": _slide, "rectified": False},
    printed={"rectified": True},
    printed_exceeds=0.4,
    mutations={
        "one constant": {"parts": partial(_slide, odd=lambda n: 3.0**n + 3)},
        "sign flipped": {"parts": partial(_slide, odd=lambda n: 3 - 3.0**n)},
    },
)
def xor_energies(
    states: Array, memories: Array, *, parts: Callable[[int], tuple[float, float]], rectified: bool
) -> Array:
    """All states and degrees against a constant and a cubic part."""
    triple = jnp.prod(states, axis=-1)
    errors = []
    for degree in _DEGREES:
        constant, cubic = parts(degree)
        energies = dense.energy(states, memories, dense.Polynomial(degree, rectified))
        errors.append(relative_error(energies, constant + cubic * triple, 1.0))
    return jnp.max(jnp.stack(errors))


@register(
    id="B8.recall",
    source=f"{_YANG}, XOR problem: 'for higher odd values of n'",
    title="which powers solve XOR",
    statement="s3 <- -s1 s2 in one update from all 8 states: rectified, every n >= 2; plain, every odd n >= 3 only",
    latex=r"s_3 \leftarrow -s_1 s_2 \iff n \ge 2 \text{ (rectified)}, \; n \in \{3, 5, 7\} \text{ (plain)}",
    printed_statement="only odd n >= 3, F_n rectified",
    verdict="WRONG",
    relation="count",
    constant="n >= 2",
    inputs=_xor,
    cases=(ordinary("8 states, n = 1..7"),),
    tolerance=0.0,
    exact={
        "rectified_solves": (2, 3, 4, 5, 6, 7),
        "plain_solves": (3, 5, 7),
        "output": lambda states: -states[:, 0] * states[:, 1],
    },
    printed={"rectified_solves": (3, 5, 7)},
    printed_exceeds=2.5,
    mutations={
        "plain, all n": {"plain_solves": (2, 3, 4, 5, 6, 7)},
        "opposite table": {"output": lambda states: states[:, 0] * states[:, 1]},
    },
)
def powers_that_solve_xor(
    states: Array, memories: Array, *, rectified_solves: tuple[int, ...], plain_solves: tuple[int, ...], output: Piece
) -> Array:
    """Number of powers that do otherwise than stated, under the difference rule."""
    wrong = []
    for rectified, solves in ((True, rectified_solves), (False, plain_solves)):
        for degree in _DEGREES:
            moved = update(dense.Network(memories, dense.Polynomial(degree, rectified)), states)
            wrong.append(jnp.all(moved[:, 2] == output(states)) != (degree in solves))
    return jnp.sum(jnp.stack(wrong)).astype(float)
