r"""CLAM whose state is an assignment: how much of a datum belongs to each memory.

.. math:: E_x(q) = \sum_k q_k |\mu_k - x|^2 + \frac{1}{\beta} \sum_k q_k \log \frac{q_k}{w_k}

Schaeffer et al. (2024), arXiv:2402.10202, propose an associative memory that computes the shares of its memories in a
datum by the evidence lower bound. This is the bound, up to scale and constant: with weights of total W,

.. math:: F_x(q) = -\beta E_x(q) - \log W - \tfrac{D}{2} \log(\pi / \beta) \le \log p(x)

with equality at the responsibilities alone. The state climbs it by exponentiated gradients,
\(q' \propto q^{1 - \eta} r^{\eta}\) with the rate \(\eta \in (0, 1]\): each step takes the share \(\eta\) off the error
of every log odds, and none lowers the bound. At \(\eta = 1\) one step is the E-step of EM. Where data are learned, the
memories follow the gradient of the sum of the bounds (:func:`climb`).

Convention (``clam`` of :mod:`probam.energies.conventions`): a memory is the Gaussian \(N(\mu_k, I / (2\beta))\). Bad
shapes, beta <= 0, a rate outside (0, 1] and negative weights raise :class:`probam.errors.InputError`.
"""

from dataclasses import dataclass

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from probam.energies import clam
from probam.energies.arguments import Scalar, Weights, log_weights, points, positive
from probam.energies.memory import SIMPLEX, Card, Memory
from probam.energies.simplex import free_energy, inside, toward
from probam.energies.wells import dot
from probam.pytrees import pytree

__all__ = ["Assignments", "climb", "energy", "update"]


def energy(
    q: Float[ArrayLike, "*batch K"],
    observation: Float[ArrayLike, "*#batch D"],
    memories: Float[ArrayLike, "K D"],
    beta: Scalar,
    weights: Weights | None = None,
) -> Float[Array, "*batch"]:
    r"""Energy of the shares q of a datum, in squared units of the data; at least CLAM's energy of that datum.

    Args:
        q: shares of the memories, at least 0, with the sum 1.
        observation: the datum, or one for each q.
        memories, beta, weights: as for :func:`probam.energies.clam.energy`.
    """
    x, memories = points(observation, memories)
    beta = positive("beta", beta, x.dtype)
    squares = jnp.sum((x[..., None, :] - memories) ** 2, axis=-1)
    return free_energy(jnp.asarray(q), squares, log_weights(weights, len(memories), x.dtype), beta)


def update(
    q: Float[ArrayLike, "*batch K"],
    observation: Float[ArrayLike, "*#batch D"],
    memories: Float[ArrayLike, "K D"],
    beta: Scalar,
    weights: Weights | None = None,
    rate: Scalar = 1.0,
) -> Float[Array, "*batch K"]:
    r"""The shares after a step, \(q' \propto q^{1 - \eta} r^{\eta}\).

    Args:
        rate: eta, above 0 and at most 1; 1 is the E-step.
        q, observation, memories, beta, weights: as for :func:`energy`.
    """
    return toward(jnp.asarray(q), clam.log_responsibilities(observation, memories, beta, weights), rate)


def climb(
    q: Float[ArrayLike, "N K"],
    memories: Float[ArrayLike, "K D"],
    x: Float[ArrayLike, "N D"],
    beta: Scalar,
    weights: Weights | None = None,
    *,
    rate: Scalar = 1.0,
    step: Scalar = 1.0,
) -> tuple[Float[Array, "N K"], Float[Array, "K D"]]:
    r"""Shares and memories after a step of each: neither lowers the sum of the bounds.

    The gradient of the sum in a memory is \(2\beta \sum_n q_{nk} (x_n - \mu_k)\); the step is ``step`` times the one to
    its maximum, \(1 / (2\beta \sum_n q_{nk})\). With ``rate`` and ``step`` 1 this is EM.

    Args:
        q: shares of every datum.
        x: data.
        rate: of the shares, above 0 and at most 1.
        step: of the memories, above 0 and below 2.
        memories, beta, weights: as for :func:`energy`.
    """
    moved = update(q, x, memories, beta, weights, rate)
    places = jnp.asarray(memories)
    counts = jnp.sum(moved, axis=0)[:, None]
    pull = dot(moved.T, jnp.asarray(x)) - counts * places
    return moved, places + step * pull / jnp.where(counts > 0, counts, 1)


@pytree
@dataclass(frozen=True, eq=False)
class Assignments(Memory):
    r"""CLAM as the evidence lower bound of a datum: the state is the share of each memory in it.

    Recall ends at the responsibilities, whatever the start, and the least energy is CLAM's energy of the datum.

    .. math:: E_x(q) = \sum_k q_k |\mu_k - x|^2 + \frac{1}{\beta} \sum_k q_k \log \frac{q_k}{w_k}

    >>> from probam.dynamics.memories import recall
    >>> memory = Assignments(jnp.array([[0.0, 0.0], [4.0, 0.0]]), jnp.array([1.5, 1.0]), beta=0.25)
    >>> recalled = recall(memory, jnp.array([0.5, 0.5]))
    >>> round(recalled.states[0].item(), 3)  # 1 / (1 + exp(-1))
    0.731
    """

    memories: Float[ArrayLike, "K D"]
    observation: Float[ArrayLike, " D"]
    beta: Scalar
    weights: Weights | None = None
    rate: Scalar = 0.5

    card = Card(
        "assignments",
        SIMPLEX,
        "sum_k q_k |mu_k - x|^2 + (1/beta) sum_k q_k log (q_k / w_k)",
        "shares to the power 1 - rate times responsibilities to the power rate",
        "one fixed point: the responsibilities of the datum",
        "Schaeffer et al. (2024), arXiv:2402.10202",
        "assignment_dynamics",
    )
    no_store = "it needs a datum to assign: build Assignments(memories, observation, beta) in Python"

    @property
    def shape(self) -> tuple[int, ...]:
        """One share for each memory."""
        return (jnp.shape(self.memories)[0],)

    def energy(self, states: Float[ArrayLike, "*batch K"]) -> Float[Array, "*batch"]:
        """:func:`energy`."""
        return energy(states, self.observation, self.memories, self.beta, self.weights)

    def update(self, states: Float[ArrayLike, "*batch K"]) -> Float[Array, "*batch K"]:
        """:func:`update`."""
        return update(states, self.observation, self.memories, self.beta, self.weights, self.rate)

    def keep(self, states: Float[ArrayLike, "*batch K"]) -> Float[Array, "*batch K"]:
        """:func:`probam.energies.simplex.inside`."""
        return inside(states)
