r"""CLAM that assigns a stream and makes memories: shares under a restaurant process with expected counts.

.. math:: E_x(q) = \sum_k q_k e_k + \frac{1}{\beta} \sum_k q_k \log \frac{q_k}{g_k}

over the memories and, last, a new one. A memory has the height \(e_k = |\mu_k - x|^2\) and the weight
\(g_k = R_k - d\), where \(R_k = \sum_{m < n} q_{mk}\) is the expected number of data that used it. A new one has the
height \(\tfrac{\rho}{\beta + \rho} |x|^2\) and the weight \((\alpha + dK) (\tfrac{\rho}{\beta + \rho})^{D/2}\), as in
:func:`probam.energies.creation.exact`, whose energy is the least of these where the counts are whole. Schaeffer et al.
(2024), arXiv:2402.10202, propose such a memory; the equations here are derived.

:func:`absorb` learns a datum: the shares climb their bound (:func:`probam.energies.simplex.toward`), a new memory is
made where its share is the largest, and every memory takes a step along the gradient of the bound,
\(\mu_k' = \mu_k + \beta q_k (x - \mu_k) / (\beta R_k' + \rho)\). With assignments of 0 and 1 this is the posterior mean
\(\beta S_k / (\beta n_k + \rho)\). A place without data has the count 0; memories of at most d data have no weight.
"""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from probam.energies.arguments import Scalar, positive
from probam.energies.memory import SIMPLEX, Card, Memory
from probam.energies.simplex import free_energy, inside, toward
from probam.energies.wells import log_shares
from probam.pytrees import pytree

__all__ = ["StreamedAssignments", "absorb", "started"]

_STEPS = 30
"""Steps of the shares for each datum."""


@pytree
@dataclass(frozen=True, eq=False)
class StreamedAssignments(Memory):
    r"""CLAM for a stream: the state is the share of each memory, and of a new one, in the next datum.

    Recall ends at the posterior of the assignment under a Pitman-Yor process whose counts are those that are expected;
    writing makes the memories, and a new one where none explains the datum.

    .. math:: E_x(q) = \sum_k q_k |\mu_k - x|^2 + q_{\rm new} \tfrac{\rho}{\beta + \rho} |x|^2
              + \frac{1}{\beta} \sum_k q_k \log \frac{q_k}{g_k}

    >>> memory = started(3, jnp.array([5.0, 0.1]), beta=2.0, rho=0.02, alpha=1.0)
    >>> memory = memory.write(jnp.array([[5.0, 0.0], [-4.0, 0.0], [5.2, 0.2]]))
    >>> memory.counts.round(2).tolist()
    [2.0, 1.0, 0.0]
    >>> round(memory.update(jnp.array([0.25, 0.25, 0.25, 0.25]))[0].item(), 3)  # half of the way, in log odds
    0.948
    """

    memories: Float[ArrayLike, "M D"]
    counts: Float[ArrayLike, " M"]
    observation: Float[ArrayLike, " D"]
    beta: Scalar
    rho: Scalar
    alpha: Scalar
    discount: Scalar = 0.0
    rate: Scalar = 0.5

    card = Card(
        "streamed_assignments",
        SIMPLEX,
        "sum_k q_k |mu_k - x|^2 + q_new rho |x|^2 / (beta + rho) + (1/beta) sum_k q_k log (q_k / g_k)",
        "shares to the power 1 - rate times their posterior to the power rate",
        "grows with the data, up to the number of places",
        "Schaeffer et al. (2024), arXiv:2402.10202",
        "assignment_dynamics",
    )
    no_store = "it needs the next datum of its stream: begin with started(num_places, observation, ...) in Python"

    @property
    def shape(self) -> tuple[int, ...]:
        """One share for each place, and one for a new memory."""
        return (jnp.shape(self.memories)[0] + 1,)

    @property
    def _wells(self) -> tuple[Float[Array, " S"], Float[Array, " S"]]:
        """Heights of the observation in the well of each memory and of a new one, and logs of the weights g."""
        x, counts, ratio = jnp.asarray(self.observation), jnp.asarray(self.counts), self.rho / (self.beta + self.rho)
        heights = jnp.append(jnp.sum((x - jnp.asarray(self.memories)) ** 2, axis=-1), ratio * jnp.sum(x**2))
        used = counts > self.discount
        new = jnp.log(self.alpha + self.discount * jnp.sum(used)) + 0.5 * len(x) * jnp.log(ratio)
        old = jnp.where(used, jnp.log(jnp.where(used, counts - self.discount, 1)), -jnp.inf)
        return heights, jnp.append(old, new)

    def energy(self, states: Float[ArrayLike, "*batch S"]) -> Float[Array, "*batch"]:
        """Of shares q; infinite where a place without weight has a share."""
        q = jnp.asarray(states)
        return free_energy(q, *self._wells, positive("beta", self.beta, q.dtype))

    def update(self, states: Float[ArrayLike, "*batch S"]) -> Float[Array, "*batch S"]:
        """The shares after a step towards their posterior."""
        heights, log_seats = self._wells
        return toward(jnp.asarray(states), log_shares(log_seats - self.beta * heights), self.rate)

    def keep(self, states: Float[ArrayLike, "*batch S"]) -> Float[Array, "*batch S"]:
        """:func:`probam.energies.simplex.inside`."""
        return inside(states)

    def write(self, patterns: Float[ArrayLike, "B D"]) -> "StreamedAssignments":
        """The memory after these data, one after the other (:func:`absorb`)."""
        written, _ = jax.lax.scan(lambda memory, x: (absorb(memory, x)[0], None), self, jnp.asarray(patterns))
        return replace(written, observation=self.observation)


def started(
    num_places: int,
    observation: Float[ArrayLike, " D"],
    *,
    beta: float,
    rho: float,
    alpha: float,
    discount: float = 0.0,
    rate: float = 0.5,
) -> StreamedAssignments:
    """A memory that has learned nothing yet."""
    x = jnp.asarray(observation, jnp.result_type(observation, float))
    numbers = (jnp.asarray(number, x.dtype) for number in (beta, rho, alpha, discount, rate))
    return StreamedAssignments(jnp.zeros((num_places, len(x)), x.dtype), jnp.zeros(num_places, x.dtype), x, *numbers)


def absorb(memory: StreamedAssignments, x: Float[Array, " D"]) -> tuple[StreamedAssignments, Float[Array, " S"]]:
    """The memory after a datum, and the shares that the datum had, the last of them that of a new memory.

    The shares start equal. Where that of a new memory is not the largest, or no place is free, the others climb alone.
    """
    seen = replace(memory, observation=x)
    counts, places = jnp.asarray(memory.counts), jnp.asarray(memory.memories)
    start = jnp.ones(len(counts) + 1, x.dtype) / (len(counts) + 1)
    q, old = (jax.lax.fori_loop(0, _STEPS, lambda _, at: seen.update(at), at) for at in (start, start.at[-1].set(0)))
    free = counts == 0
    opened = jnp.any(free) & (jnp.argmax(q) == len(counts))
    first = jax.nn.one_hot(jnp.argmax(free), len(counts), dtype=x.dtype)
    taken = jnp.where(opened, q[:-1] + q[-1] * first, old[:-1])
    grown = counts + taken
    rate = memory.beta * taken / (memory.beta * grown + memory.rho)
    return replace(seen, memories=places + rate[:, None] * (x - places), counts=grown), q
