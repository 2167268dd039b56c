"""Check that a memory is what it says: its energy the negative log density of its twin, its updates downhill."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Shaped

from probam.energies.memory import Memory
from probam.equivalence.check import Check
from probam.equivalence.twin import twin

__all__ = ["Verified", "verify_memory"]

_ROUNDING = 2.0**20
"""Bound of an error in units of eps: terms of a sum may be this much larger than what is left of them."""


class Verified(NamedTuple):
    """The checks of a memory, and what could not be checked, with the reason."""

    checks: list[Check]
    left_out: list[str]


def verify_memory(memory: Memory, states: Shaped[ArrayLike, "..."]) -> Verified:
    """Compare a memory with its density and with itself at these states.

    The energy is compared with the log density of the twin, and their derivatives with each other, in units of 1 plus
    the largest log density; updates must not raise the energy of a memory that promises it.

    Args:
        memory: any memory.
        states: where to compare, shape (..., *shape); those outside a memory's support are left out.

    Raises:
        InputError: for states of another shape or outside the alphabet.
    """
    rows = memory.check(states, "states").reshape(-1, *memory.shape)
    bound = _ROUNDING * float(np.finfo(rows.dtype).eps)
    name = f"probam.energies ({memory.card.name})"
    if memory.energy is None:
        return Verified([], [f"energy: {memory.card.name} has none: {memory.no_energy}"])
    energies = memory.energy(rows)
    inside = jnp.isfinite(energies)
    rows, energies = rows[inside], energies[inside]
    left_out = [] if inside.all() else [f"{int((~inside).sum())} states, at which the energy is infinite"]
    checks: list[Check] = []
    density = twin(memory)
    if isinstance(density, str):
        left_out.append(f"density: {density}")
    elif len(rows):
        both = f"{name} against NumPyro ({type(density.distribution).__name__})"
        log_prob = jnp.asarray(density.distribution.log_prob(rows))
        size = 1 + float(jnp.max(jnp.abs(log_prob)))
        error = float(jnp.max(jnp.abs(log_prob + density.scale * energies + density.constant))) / size
        checks.append(_check("energy", "log p = -scale E - constant", both, error, bound))
        if not density.distribution.is_discrete:
            checks.append(_force(memory, rows, both, bound))
    if memory.falls and memory.update is not None and len(rows):
        rise = jnp.max(memory.energy(memory.update(rows)) - energies) / (1 + jnp.max(jnp.abs(energies)))
        checks.append(_check("update", "no update raises the energy", name, max(float(rise), 0.0), bound))
    elif memory.update is not None:
        left_out.append(f"update: {memory.card.name} does not promise that every update lowers the energy")
    return Verified(checks, left_out)


def _force(memory: Memory, rows: jax.Array, both: str, bound: float) -> Check:
    """Derivatives of the energy and of the log density; along the sphere where states are unit vectors."""
    density, energy = twin(memory), memory.energy
    assert not isinstance(density, str)
    assert energy is not None
    force = -density.scale * jax.grad(lambda v: jnp.sum(energy(v)))(rows)
    score = jax.grad(lambda v: jnp.sum(density.distribution.log_prob(v)))(rows)
    gap = force - score
    if memory.alphabet.name == "unit vectors":
        gap = gap - jnp.sum(gap * rows, axis=-1, keepdims=True) * rows
    error = float(jnp.max(jnp.abs(gap)) / (1 + jnp.max(jnp.abs(score))))
    return _check("force", "grad log p = -scale grad E", both, error, bound)


def _check(name: str, relation: str, witnesses: str, error: float, tolerance: float) -> Check:
    return Check(name, relation, witnesses, error, tolerance, bool(error <= tolerance))
