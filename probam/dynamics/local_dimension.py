r"""In how many directions a memory is soft at a state: the spectrum of its energy's Hessian.

.. math:: \operatorname{Hess} E\, u_i = \lambda_i u_i

A step of recall shrinks a small displacement along \(u_i\). For CLAM, whose step is \(v - \tfrac12 \nabla E\), a share
of \(1 - \lambda_i / 2\) of it is left: near 1 along the surface on which the memories lie, near 0 away from it, and
near 0 in all directions at a memory that is recalled exactly. The number of directions of which more than half is left
is the local dimension at this beta (Achilli et al. 2024, arXiv:2410.08727, for diffusion models).
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from probam.energies.memory import Memory
from probam.errors import InputError

__all__ = ["curvatures", "local_dimension", "what_is_left"]


def curvatures(memory: Memory, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch D"]:
    """Eigenvalues of the Hessian of the energy at each state, in ascending order.

    Args:
        memory: one with a smooth energy over real vectors.
        states: where to look.

    Raises:
        InputError: for a memory without an energy, and states that it does not have.
    """
    if memory.energy is None or len(memory.shape) != 1:
        raise InputError(f"memory: {memory.card.name} has no energy over real vectors, whose Hessian could be taken")
    return _spectra(jax.hessian(memory.energy), memory.check(states, "states"))


def what_is_left(memory: Memory, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch D"]:
    """Shares of small displacements that are left after a step of recall, in ascending order.

    They are the eigenvalues of the update's Jacobian, which must be symmetric, as that of a gradient step is.

    Args:
        memory: one with a smooth update of real vectors.
        states: where to look.

    Raises:
        InputError: for a memory without an update, and states that it does not have.

    >>> from probam.energies.clam import Clam
    >>> line = jnp.stack([jnp.linspace(-3, 3, 61), jnp.zeros(61)], axis=1)
    >>> what_is_left(Clam(line, beta=0.5), jnp.array([0.2, 0.1])).round(2).tolist()  # off the line, along it
    [0.0, 0.97]
    """
    if memory.update is None or len(memory.shape) != 1:
        raise InputError(f"memory: {memory.card.name} has no update of real vectors, whose Jacobian could be taken")
    return _spectra(jax.jacobian(memory.update), memory.check(states, "states"))


def local_dimension(
    memory: Memory, states: Float[ArrayLike, "*batch D"], *, least: float = 0.5
) -> Int[Array, "*batch"]:
    """Number of directions of which a step of recall leaves more than ``least``."""
    return jnp.sum(what_is_left(memory, states) > least, axis=-1)


def _spectra(matrix_at: Any, states: Float[Array, "*batch D"]) -> Float[Array, "*batch D"]:
    rows = states.reshape(-1, states.shape[-1])
    values: Array = jax.lax.map(lambda row: jnp.linalg.eigvalsh(matrix_at(row)), rows)
    return values.reshape(states.shape)
