r"""Recall with binary neurons: each takes the sign of its local field, one at a time or all at once.

.. math:: s_i \leftarrow {\rm sign}\bigl(h_i(s)\bigr), \qquad s \in \{-1, 1\}^N

A network defines the local fields (:class:`BinaryNetwork`; :class:`probam.energies.hopfield.Network`,
:class:`probam.energies.dense.Network`). :func:`asynchronous` visits all neurons, in a fixed order or in a new random
one for every sweep; :func:`synchronous` sets them all from the same state. Where the field is minus half the change of
energy by the neuron's flip (symmetric couplings, the difference rule), no asynchronous update goes uphill. A
synchronous one may, and may end in a cycle, whose length is reported.

A field of exactly zero is a tie: ``ties="up"`` sets the neuron to +1, as Hopfield and the slides of Yang (2020) do;
``ties="keep"`` leaves it as it is. With "up", a neuron may turn at equal energy, but only once: no asynchronous run
cycles. Ties are those of the computed field: with couplings that are not whole numbers, rounding breaks them.

All queries run on the device in one compiled program, which is reused for calls of the same shapes. Both functions may
be called inside ``jit`` and ``vmap``, and then skip the checks of values.
"""

from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from probam.energies.arguments import check_signs, is_traced
from probam.errors import InputError

__all__ = ["BinaryNetwork", "DiscreteRecall", "Ties", "asynchronous", "synchronous", "update"]

Ties = Literal["up", "keep"]
"""What a neuron does at a local field of zero: turn to +1, or stay."""


@runtime_checkable
class BinaryNetwork(Protocol):
    """What the dynamics need of a network; a pytree, whose arrays may change without a new compilation.

    ``start``, ``local`` and ``flip`` work on one state: what is cached from neuron to neuron (overlaps, for example),
    the local field of neuron ``index``, and the cache after that neuron changed by ``change``. ``fields`` and
    ``energy`` take states of any batch.
    """

    @property
    def num_neurons(self) -> int:
        """N."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the fields."""

    def start(self, state: Float[Array, " N"], /) -> Any:
        """The cache of a sweep."""

    def local(self, kept: Any, state: Float[Array, " N"], index: Int[Array, ""], /) -> Float[Array, ""]:
        """Local field of one neuron, up to a positive factor."""

    def flip(self, kept: Any, index: Int[Array, ""], change: Float[Array, ""], /) -> Any:
        """The cache after one neuron changed."""

    def fields(self, states: Float[Array, "*batch N"]) -> Float[Array, "*batch N"]:
        """Local fields of all neurons, up to a positive factor."""

    def energy(self, states: Float[Array, "*batch N"]) -> Float[Array, "*batch"]:
        """Energy of each state."""


class DiscreteRecall(NamedTuple):
    """The final state of each query, and whether it is a fixed point.

    ``steps`` counts the sweeps (or synchronous steps), including the one that changed nothing, and ``flips`` the
    changes of single neurons. ``period`` is 1 at a fixed point, the length of the cycle on which ``states`` lies, or 0
    where neither was reached. ``converged`` means a fixed point. ``trajectory`` and ``energies`` hold the first T + 1
    states and their energies; a query that ended earlier repeats its last state. Both are None unless ``record`` is
    set.
    """

    states: Float[Array, "*batch N"]
    steps: Int[Array, "*batch"]
    flips: Int[Array, "*batch"]
    period: Int[Array, "*batch"]
    energy: Float[Array, "*batch"]
    converged: Bool[Array, "*batch"]
    trajectory: Float[Array, "T+1 *batch N"] | None
    energies: Float[Array, "T+1 *batch"] | None


def update(
    network: BinaryNetwork, states: Float[ArrayLike, "*batch N"], *, ties: Ties = "up"
) -> Float[Array, "*batch N"]:
    """One synchronous update of every state. Neurons that change are unstable there.

    Args:
        ties: what a neuron does at a local field of zero.
    """
    states = _states("states", network, states, ties)
    return _decided(network.fields(states), states, ties)


def synchronous(
    network: BinaryNetwork,
    queries: Float[ArrayLike, "*batch N"],
    *,
    max_steps: int = 1000,
    ties: Ties = "up",
    record: int = 0,
) -> DiscreteRecall:
    """Set all neurons at once until the state repeats.

    Symmetric couplings end in a fixed point or a cycle of length 2 (Goles, Fogelman and Pellegrin 1985,
    doi:10.1016/0166-218X(85)90029-0). The longer cycles of other rules are detected by Brent's algorithm (1980), which
    may follow a cycle a few times.

    Args:
        queries: signs, -1 or 1.
        max_steps: most steps of a query.
        ties: what a neuron does at a local field of zero.
        record: T keeps the first T + 1 states and energies; 0 keeps none.

    Raises:
        InputError: for queries that are not signs or not of N neurons.
    """
    states = _states("queries", network, queries, ties)
    _check_counts(max_steps, record)
    return _shaped(_synchronous(network, _rows(states), max_steps, ties=ties, record=record), states.shape[:-1])


def asynchronous(
    network: BinaryNetwork,
    queries: Float[ArrayLike, "*batch N"],
    *,
    key: Array | None = None,
    order: Int[ArrayLike, " N"] | None = None,
    max_sweeps: int = 1000,
    ties: Ties = "up",
    record: int = 0,
) -> DiscreteRecall:
    """Set one neuron after the other, sweep by sweep, until a sweep changes nothing.

    Give either ``key`` or ``order``.

    Args:
        queries: signs, -1 or 1.
        key: for random orders, another for every query and sweep (that of query q and sweep t depends on key, q and t
            only).
        order: a permutation of the neurons for all queries and sweeps. A rule without an energy may then end in a
            cycle of sweeps.
        max_sweeps: most sweeps of a query.
        ties: what a neuron does at a local field of zero.
        record: T keeps the query and the states after the first T sweeps, with their energies; 0 keeps none.

    Raises:
        InputError: as :func:`synchronous`, and for an order that does not visit all neurons.
    """
    states = _states("queries", network, queries, ties)
    _check_counts(max_sweeps, record)
    if (key is None) == (order is None):
        raise InputError("key, order: expected exactly one: a key for random orders, or an order for all sweeps")
    if order is None:
        report = _in_random_order(network, _rows(states), key, max_sweeps, ties=ties, record=record)
    else:
        order = jnp.asarray(order)
        if order.shape != (network.num_neurons,) or not (
            is_traced(order) or np.array_equal(np.sort(np.asarray(order)), np.arange(network.num_neurons))
        ):
            raise InputError(f"order: expected each of 0 ... {network.num_neurons - 1} once; got {order}")
        report = _in_given_order(network, _rows(states), order, max_sweeps, ties=ties, record=record)
    return _shaped(report, states.shape[:-1])


class _Run(NamedTuple):
    """One state on its way; ``checkpoint`` is Brent's, ``lap`` the steps made since it was set."""

    t: Int[Array, ""]
    state: Float[Array, " N"]
    previous: Float[Array, " N"]
    checkpoint: Float[Array, " N"]
    power: Int[Array, ""]
    lap: Int[Array, ""]
    period: Int[Array, ""]
    flips: Int[Array, ""]
    trajectory: Float[Array, "T+1 N"]


def _until_it_repeats(
    sweep: Any, query: Float[Array, " N"], max_steps: Int[Array, ""], *, record: int, repeats: bool
) -> _Run:
    """Sweeps of one state until a fixed point or, where sweeps are a map (``repeats``), a cycle."""

    def more(run: _Run) -> Bool[Array, ""]:
        return (run.t < max_steps) & (run.period == 0)

    def advance(run: _Run) -> _Run:
        moved = sweep(run.state, run.t)
        changed = jnp.sum(moved != run.state, dtype=jnp.int32)
        renew = run.lap == run.power
        checkpoint = jnp.where(renew, run.state, run.checkpoint)
        lap = jnp.where(renew, 0, run.lap) + 1
        period = jnp.where(changed == 0, 1, 0)
        if repeats:
            back = (run.t > 0) & jnp.all(moved == run.previous)
            around = jnp.where(jnp.all(moved == checkpoint), lap, 0)
            period = jnp.where(changed == 0, 1, jnp.where(back, 2, around))
        trajectory = run.trajectory
        if record:
            trajectory = trajectory.at[run.t + 1].set(moved, mode="drop")
        return _Run(
            run.t + 1,
            moved,
            run.state,
            checkpoint,
            jnp.where(renew, 2 * run.power, run.power),
            lap,
            period.astype(jnp.int32),
            run.flips + changed,
            trajectory,
        )

    zero = jnp.int32(0)
    kept = jnp.broadcast_to(query, (record + 1 if record else 0, len(query)))
    start = _Run(zero, query, query, query, jnp.int32(1), zero, zero, zero, kept)
    run: _Run = jax.lax.while_loop(more, advance, start)
    late = jnp.arange(len(kept))[:, None] > run.t
    return run._replace(trajectory=jnp.where(late, run.state, run.trajectory))


def _report(network: BinaryNetwork, run: _Run, record: int) -> DiscreteRecall:
    trajectory = jnp.moveaxis(run.trajectory, 1, 0) if record else None  # (T+1, Q, N)
    return DiscreteRecall(
        run.state,
        run.t,
        run.flips,
        run.period,
        network.energy(run.state),
        run.period == 1,
        trajectory,
        None if trajectory is None else network.energy(trajectory),
    )


def _swept(
    network: BinaryNetwork, state: Float[Array, " N"], order: Int[Array, " N"], ties: Ties
) -> Float[Array, " N"]:
    """The state after each neuron of ``order`` was set in turn."""

    def visit(at: Int[Array, ""], carried: tuple[Float[Array, " N"], Any]) -> tuple[Float[Array, " N"], Any]:
        state, kept = carried
        index = order[at]
        value = _decided(network.local(kept, state, index), state[index], ties)
        return state.at[index].set(value), network.flip(kept, index, value - state[index])

    end: Float[Array, " N"] = jax.lax.fori_loop(0, len(order), visit, (state, network.start(state)))[0]
    return end


def _in_random_order(
    network: BinaryNetwork, queries: Float[Array, "Q N"], key: Any, max_sweeps: Any, *, ties: Ties, record: int
) -> DiscreteRecall:
    def run(query: Float[Array, " N"], number: Int[Array, ""]) -> _Run:
        own = jax.random.fold_in(key, number)

        def sweep(state: Float[Array, " N"], t: Int[Array, ""]) -> Float[Array, " N"]:
            return _swept(network, state, jax.random.permutation(jax.random.fold_in(own, t), len(state)), ties)

        return _until_it_repeats(sweep, query, max_sweeps, record=record, repeats=False)

    return _report(network, jax.vmap(run)(queries, jnp.arange(len(queries))), record)


def _in_given_order(
    network: BinaryNetwork, queries: Float[Array, "Q N"], order: Any, max_sweeps: Any, *, ties: Ties, record: int
) -> DiscreteRecall:
    def run(query: Float[Array, " N"]) -> _Run:
        return _until_it_repeats(
            lambda state, _t: _swept(network, state, order, ties), query, max_sweeps, record=record, repeats=True
        )

    return _report(network, jax.vmap(run)(queries), record)


def _at_once(
    network: BinaryNetwork, queries: Float[Array, "Q N"], max_steps: Any, *, ties: Ties, record: int
) -> DiscreteRecall:
    def run(query: Float[Array, " N"]) -> _Run:
        return _until_it_repeats(
            lambda state, _t: _decided(network.fields(state), state, ties),
            query,
            max_steps,
            record=record,
            repeats=True,
        )

    return _report(network, jax.vmap(run)(queries), record)


_in_random_order = jax.jit(_in_random_order, static_argnames=("ties", "record"))
_in_given_order = jax.jit(_in_given_order, static_argnames=("ties", "record"))
_synchronous = jax.jit(_at_once, static_argnames=("ties", "record"))


def _decided(field: Float[Array, "*any"], state: Float[Array, "*any"], ties: Ties) -> Float[Array, "*any"]:
    """The sign of the field, ties resolved."""
    one = jnp.ones((), state.dtype)
    tie = one if ties == "up" else state
    return jnp.where(field > 0, one, jnp.where(field < 0, -one, tie))


def _states(name: str, network: BinaryNetwork, states: Float[ArrayLike, "*batch N"], ties: Ties) -> Array:
    if ties not in ("up", "keep"):
        raise InputError(f"ties: expected 'up' (to +1) or 'keep'; got {ties!r}")
    check_signs(name, states)
    states = jnp.asarray(states)
    if states.ndim == 0 or states.shape[-1] != network.num_neurons:
        raise InputError(
            f"{name}: expected shape (..., {network.num_neurons}), one sign per neuron; got {states.shape}"
        )
    return states.astype(jnp.result_type(states, network.dtype))


def _check_counts(max_steps: int, record: int) -> None:
    if (not is_traced(max_steps) and max_steps < 0) or record < 0:
        raise InputError(f"max_steps, record: expected whole numbers of at least 0; got {max_steps} and {record}")


def _rows(states: Float[Array, "*batch N"]) -> Float[Array, "Q N"]:
    return states.reshape(-1, states.shape[-1])


def _shaped(report: DiscreteRecall, batch: tuple[int, ...]) -> DiscreteRecall:
    """The report in the shape of the queries."""
    states, steps, flips, period, energy, converged, trajectory, energies = report
    return DiscreteRecall(
        states.reshape(*batch, -1),
        steps.reshape(batch),
        flips.reshape(batch),
        period.reshape(batch),
        energy.reshape(batch),
        converged.reshape(batch),
        None if trajectory is None else trajectory.reshape(len(trajectory), *batch, -1),
        None if energies is None else energies.reshape(len(energies), *batch),
    )
