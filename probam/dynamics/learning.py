r"""Learning the memories of a clustering associative memory by descending the error of its own recall.

.. math:: L(\mu) = \sum_n |x_n - x_n^T|^2, \qquad x_n^0 = x_n, \quad x_n^{t+1} = x_n^t + a\,(m(x_n^t) - x_n^t)

Saha et al. (2023), arXiv:2306.03209; Schaeffer et al. (2023), Eq. 3, with a = dt / tau. There are two gradients in the
memories: through the T unrolled steps (:func:`unrolled`), and through the fixed point itself (:func:`fixed_point`, the
limit of many steps), by the implicit function theorem, which does not need the path:

.. math:: \frac{\partial v^*}{\partial \mu_k} = (I - 2\beta\,{\rm Cov}_r)^{-1}\, r_k\,
          \bigl[I - 2\beta\,(\mu_k - v^*)(\mu_k - v^*)^\top\bigr]

The masked loss of Saha et al. is pattern completion: hidden coordinates start at a fill value, and only they move and
count. :math:`L` is not a likelihood: its gradient is that of the Gaussian mixture only for one memory and in the limit
of large beta.

All functions are pure and may be used under ``jit``, ``vmap`` and ``grad``; :func:`fixed_point` has reverse-mode
derivatives only.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float

from probam.dynamics.loops import iterate
from probam.energies import clam
from probam.energies.arguments import Logs, Scalar, Weights, is_traced, log_weights, points, positive
from probam.errors import InputError, NumericalError

__all__ = ["Descent", "Learned", "Learner", "fixed_point", "learn", "reconstruction_error", "unrolled"]

_TOLERANCE = 4
"""Relative residual, in eps, at which a fixed point is reached."""


class Learned(NamedTuple):
    """Memories, and the loss of each epoch: its sum over the data of the epoch, before the steps of the epoch.

    With masks it is the loss under that epoch's own random masks.
    """

    memories: Float[Array, "K D"]
    losses: Float[Array, " E"]


class Descent(NamedTuple):
    """How far learning has come: the memories, the moments of Adam, and the steps done."""

    memories: Float[Array, "K D"]
    moments: Any
    done: Float[Array, ""]


def unrolled(
    memories: Float[ArrayLike, "K D"],
    queries: Float[ArrayLike, "*batch D"],
    beta: Scalar,
    weights: Weights | None = None,
    *,
    num_steps: int,
    step: Scalar = 1.0,
    free: Bool[ArrayLike, "*batch D"] | None = None,
) -> Float[Array, "*batch D"]:
    """States after ``num_steps`` Euler steps; differentiable through every step.

    Args:
        num_steps: T.
        step: a, in units of tau.
        free: which coordinates move; None moves all of them.

    Raises:
        InputError: for a step outside (0, 2) and bad shapes.
    """
    if num_steps < 1:
        raise InputError(f"num_steps: expected a whole number of at least 1; got {num_steps}")
    queries, memories = points(queries, memories)
    moves = _step(step, queries.dtype) * _moves(free, queries)

    def advance(v: Float[Array, "*batch D"], _: None) -> tuple[Float[Array, "*batch D"], None]:
        return v + moves * (clam.update(v, memories, beta, weights) - v), None

    return jax.lax.scan(advance, queries, None, length=num_steps)[0]


def fixed_point(
    memories: Float[ArrayLike, "K D"],
    queries: Float[ArrayLike, "*batch D"],
    beta: Scalar,
    weights: Weights | None = None,
    *,
    free: Bool[ArrayLike, "*batch D"] | None = None,
    max_steps: int = 10_000,
) -> Float[Array, "*batch D"]:
    r"""The limit of unit steps: \(v^* = m(v^*)\), with the implicit derivative in memories, beta and weights.

    The derivative solves \((I - \partial m / \partial v)\, w = g\) by conjugate gradients: the matrix is half the
    energy's Hessian, positive definite at a minimum. At a saddle, which is reached from exact ties only, the derivative
    is not that of the state reached. A query that has not converged after ``max_steps`` gives the derivative at its
    last state.

    Args:
        free: which coordinates move; None moves all of them. The fixed point depends on the values of the others, but
            not on where the free ones start.
    """
    queries, memories = points(queries, memories)
    beta = positive("beta", beta, queries.dtype)
    logs = log_weights(weights, len(memories), queries.dtype)
    rows = queries.reshape(-1, queries.shape[-1])
    moves = jnp.broadcast_to(_moves(free, queries), queries.shape).reshape(rows.shape)
    states: Float[Array, "Q D"] = _settled(max_steps, (memories, beta, logs), rows, moves)
    return states.reshape(queries.shape)


def reconstruction_error(
    memories: Float[ArrayLike, "K D"],
    data: Float[ArrayLike, "N D"],
    beta: Scalar,
    weights: Weights | None = None,
    *,
    num_steps: int | None = None,
    step: Scalar = 1.0,
    hidden: Bool[ArrayLike, "N D"] | None = None,
    fill: Float[ArrayLike, " D"] | None = None,
) -> Float[Array, ""]:
    r"""Sum of the squared distances between the data and the states recalled from them; squared units of the data.

    .. math:: L = \sum_n |x_n - x_n^T|^2

    Schaeffer et al. (2023), Eq. 3 (there with the index misprinted).

    Args:
        num_steps: T; None recalls to the fixed point and differentiates it implicitly.
        step: a, in units of tau; unused at the fixed point.
        hidden: coordinates that are to be completed (Saha et al. 2023): only they move and count. None: all count.
        fill: values at which hidden coordinates start, by default zero.
    """
    data, memories = points(data, memories)
    start = data if hidden is None else jnp.where(hidden, 0.0 if fill is None else jnp.asarray(fill, data.dtype), data)
    if num_steps is None:
        recalled = fixed_point(memories, start, beta, weights, free=hidden)
    else:
        recalled = unrolled(memories, start, beta, weights, num_steps=num_steps, step=step, free=hidden)
    return jnp.sum(_moves(hidden, data) * (data - recalled) ** 2)


def learn(
    key: jax.Array,
    data: Float[ArrayLike, "N D"],
    memories: Float[ArrayLike, "K D"],
    beta: Scalar,
    weights: Weights | None = None,
    *,
    num_epochs: int = 200,
    batch_size: int | None = None,
    learning_rate: Scalar = 0.05,
    num_steps: int | None = 10,
    step: Scalar = 0.1,
    masked: float = 0.0,
    fill: Float[ArrayLike, " D"] | None = None,
) -> Learned:
    """Memories after ``num_epochs`` epochs of Adam on :func:`reconstruction_error`.

    Args:
        memories: where to start.
        batch_size: data per step (default all). An epoch leaves out a remainder that fills no batch, drawn anew.
        learning_rate: first step size, in units of the data; it falls to zero along a cosine.
        num_steps: steps of recall (default ten of a tenth of tau, as in Saha et al. 2023); None uses the fixed point.
        step: size of a step of recall, in units of tau.
        masked: above 0, hides each coordinate with that probability and trains pattern completion.
        fill: values at which hidden coordinates start, by default zero.

    Raises:
        InputError: for sizes and probabilities out of range.
        NumericalError: where the loss leaves the finite numbers.
    """
    learner = Learner(
        data,
        memories,
        beta,
        weights,
        num_epochs=num_epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        num_steps=num_steps,
        step=step,
        masked=masked,
        fill=fill,
    )
    descent, losses = learner.advance(key, learner.begin(memories), 0, num_epochs)
    if not is_traced(losses) and not np.isfinite(np.asarray(losses)).all():
        raise NumericalError("learn: the loss left the finite numbers; scale the data or lower learning_rate")
    return Learned(descent.memories, losses)


class Learner:
    """What :func:`learn` does, in parts: the epochs may be taken in several calls, and from several starts.

    Args:
        memories: a start, of which shape and dtype matter.

    The other arguments are those of :func:`learn`, and what is raised is too.
    """

    def __init__(
        self,
        data: Float[ArrayLike, "N D"],
        memories: Float[ArrayLike, "K D"],
        beta: Scalar,
        weights: Weights | None = None,
        *,
        num_epochs: int,
        batch_size: int | None,
        learning_rate: Scalar,
        num_steps: int | None,
        step: Scalar,
        masked: float,
        fill: Float[ArrayLike, " D"] | None,
    ) -> None:
        data, memories = points(data, memories)
        if data.ndim != 2 or len(data) == 0:
            raise InputError(f"data: expected shape (N, {memories.shape[1]}), one row per datum; got {data.shape}")
        if num_epochs < 1:
            raise InputError(f"num_epochs: expected a whole number of at least 1; got {num_epochs}")
        size = len(data) if batch_size is None else batch_size
        if not 1 <= size <= len(data):
            raise InputError(
                f"batch_size: expected a whole number from 1 to {len(data)}, the number of data; got {size}"
            )
        if not 0 <= masked < 1:
            raise InputError(f"masked: expected a probability of at least 0 and below 1; got {masked}")
        dtype = self._dtype = data.dtype
        self._num_epochs = num_epochs
        self._numbers = (
            data,
            positive("beta", beta, dtype),
            log_weights(weights, len(memories), dtype),
            positive("learning_rate", learning_rate, dtype),
            _step(step, dtype),
            jnp.zeros(data.shape[1], dtype) if fill is None else jnp.asarray(fill, dtype),
        )
        self._static = {"num_epochs": num_epochs, "batch_size": size, "num_steps": num_steps, "masked": masked}

    def begin(self, memories: Float[ArrayLike, "K D"]) -> Descent:
        """Before the first epoch, at these memories."""
        start = jnp.asarray(memories, self._dtype)
        return Descent(start, optax.scale_by_adam().init(start), jnp.zeros((), self._dtype))

    def advance(self, key: jax.Array, descent: Descent, first: int, last: int) -> tuple[Descent, Float[Array, " E"]]:
        """The descent after the epochs from number ``first`` (from 0) to before ``last``, and the loss of each."""
        keys = jax.random.split(key, self._num_epochs)[first:last]
        after: tuple[Descent, Float[Array, " E"]] = _descend(keys, descent, *self._numbers, **self._static)
        return after


@partial(jax.jit, static_argnames=("num_epochs", "batch_size", "num_steps", "masked"))
def _descend(
    keys: jax.Array,
    descent: Descent,
    data: Float[Array, "N D"],
    beta: Float[Array, ""],
    logs: Float[Array, " K"],
    learning_rate: Float[Array, ""],
    step: Float[Array, ""],
    fill: Float[Array, " D"],
    *,
    num_epochs: int,
    batch_size: int,
    num_steps: int | None,
    masked: float,
) -> tuple[Descent, Float[Array, " E"]]:
    """One epoch for each key, of ``num_epochs`` in all."""
    num_batches = len(data) // batch_size
    total = num_epochs * num_batches
    adam = optax.scale_by_adam()

    def loss(mu: Float[Array, "K D"], rows: Float[Array, "B D"], hidden: Bool[Array, "B D"] | None) -> Float[Array, ""]:
        return reconstruction_error(
            mu, rows, beta, Logs(logs), num_steps=num_steps, step=step, hidden=hidden, fill=fill
        )

    def batch(
        carry: tuple[Descent, jax.Array], rows: Float[Array, "B D"]
    ) -> tuple[tuple[Descent, jax.Array], Float[Array, ""]]:
        (mu, state, done), key = carry
        key, key_mask = jax.random.split(key)
        hidden = jax.random.bernoulli(key_mask, masked, rows.shape) if masked else None
        value, slope = jax.value_and_grad(loss)(mu, rows, hidden)
        direction: Any
        direction, state = adam.update(slope, state)
        rate = learning_rate * (1 + jnp.cos(jnp.pi * done / total)) / 2
        return (Descent(mu - rate * direction, state, done + 1), key), value

    def epoch(descent: Descent, key: jax.Array) -> tuple[Descent, Float[Array, ""]]:
        key_order, key_masks = jax.random.split(key)
        rows = data if batch_size == len(data) else jax.random.permutation(key_order, data)
        batches = rows[: num_batches * batch_size].reshape(num_batches, batch_size, -1)
        (descent, _), values = jax.lax.scan(batch, (descent, key_masks), batches)
        return descent, jnp.sum(values)

    return jax.lax.scan(epoch, descent, keys)


def _step(step: Scalar, dtype: Any) -> Float[Array, ""]:
    size = jnp.asarray(step, dtype)
    if size.shape or (not is_traced(size) and not 0 < float(size) < 2):
        raise InputError(f"step: expected a number in (0, 2), the time step over tau; got {step}")
    return size


def _moves(
    free: Bool[ArrayLike, "*batch D"] | None, like: Float[Array, "*batch D"]
) -> Float[Array, "*batch D"] | Float[Array, ""]:
    """One where a coordinate moves, zero where it is clamped; a single one where all move."""
    return jnp.ones((), like.dtype) if free is None else jnp.asarray(free).astype(like.dtype)


# --- the fixed point and its derivative -----------------------------------------------------------------------

_Bank = tuple[Float[Array, "K D"], Float[Array, ""], Float[Array, " K"]]
"""Memories, beta and log weights."""


def _mean(bank: _Bank, states: Float[Array, "*batch D"]) -> Float[Array, "*batch D"]:
    memories, beta, logs = bank
    return clam.update(states, memories, beta, Logs(logs))


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _settled(
    max_steps: int, bank: _Bank, queries: Float[Array, "Q D"], moves: Float[Array, "Q D"]
) -> Float[Array, "Q D"]:
    states: Float[Array, "Q D"] = iterate(
        lambda v: v + moves * (_mean(bank, v) - v),
        lambda v: jnp.zeros(len(v), v.dtype),
        queries=queries,
        step=jnp.ones((), queries.dtype),
        tolerance=jnp.asarray(_TOLERANCE * float(np.finfo(queries.dtype).eps), queries.dtype),
        max_steps=max_steps,
        record=0,
    )[0]
    return states


def _settled_forward(
    max_steps: int, bank: _Bank, queries: Float[Array, "Q D"], moves: Float[Array, "Q D"]
) -> tuple[Float[Array, "Q D"], tuple[Any, ...]]:
    states = _settled(max_steps, bank, queries, moves)
    return states, (bank, states, moves)


def _settled_backward(
    max_steps: int, residuals: tuple[Any, ...], g: Float[Array, "Q D"]
) -> tuple[_Bank, Float[Array, "Q D"], Float[Array, "Q D"]]:
    r"""With P the free coordinates and J the symmetric Jacobian of m: solve (I - P J P) w = P g, then pull P w back."""
    del max_steps
    bank, states, moves = residuals
    limit = float(np.finfo(states.dtype).eps)
    rank = min(bank[0].shape)

    def solved(v: Float[Array, " D"], moves: Float[Array, " D"], g: Float[Array, " D"]) -> Float[Array, " D"]:
        _, pull = jax.vjp(lambda v: _mean(bank, v), v)
        w, _ = jax.scipy.sparse.linalg.cg(
            lambda w: w - moves * pull(moves * w)[0], moves * g, tol=limit, atol=0.0, maxiter=2 * rank + 10
        )
        freely: Float[Array, " D"] = moves * w
        return freely

    w = jax.vmap(solved)(states, moves, g)
    _, pull = jax.vjp(_mean, bank, states)
    of_bank: _Bank
    of_bank, through_states = pull(w)
    return of_bank, (1 - moves) * (g + through_states), jnp.zeros_like(moves)


_settled.defvjp(_settled_forward, _settled_backward)
