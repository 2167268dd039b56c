r"""Factual memories: how many pairs a matrix, or a perceptron, recalls.

Pairs of random directions \(v_i \to u_i\) in d dimensions, each answer of its own; pair i is recalled where
\(u_i \cdot f(v_i)\) is the largest of all \(u_j \cdot f(v_i)\). Nichani et al. (2024), arXiv:2412.06538: a linear map
\(f(v) = W v\) stores about \(d^2\) pairs up to logarithms, a perceptron of m hidden units about m d. The sum
\(W = \sum_i u_i v_i^\top\) has noise of variance \(N / d^2\) in each of N scores, so that half of them are recalled
where \(N \log N / d^2\) is near 1/2 in high dimensions.
"""

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

__all__ = ["crossing", "exponents", "recalled_by_sum", "recalled_by_training"]


def _pairs(key: jax.Array, number: int, dim: int) -> Float[Array, "2 N D"]:
    """Random directions asked for and answered."""
    drawn = jax.random.normal(key, (2, number, dim))
    directions: Array = drawn / jnp.linalg.norm(drawn, axis=-1, keepdims=True)
    return directions


def _share(asked: Float[Array, "N D"], answers: Float[Array, "N D"]) -> Float[Array, ""]:
    """Share of the rows whose own answer has the largest product."""
    return jnp.mean(jnp.argmax(asked @ answers.T, axis=-1) == jnp.arange(len(answers)))


@partial(jax.jit, static_argnums=(1, 2))
def recalled_by_sum(keys: jax.Array, number: int, dim: int) -> Float[Array, " S"]:
    """Share of the pairs recalled by the sum of their products, for each key.

    Args:
        keys: one for each repetition.
        number: N, pairs.
        dim: d.
    """

    def one(key: jax.Array) -> Array:
        asked, answers = _pairs(key, number, dim)
        return _share(asked @ (asked.T @ answers), answers)

    shares: Array = jax.lax.map(one, keys)
    return shares


@partial(jax.jit, static_argnums=(1, 2, 3, 4))
def recalled_by_training(
    keys: jax.Array, number: int, dim: int, hidden: int | None = None, steps: int = 400
) -> Float[Array, " S"]:
    """Share of the pairs recalled after training on the cross-entropy of all pairs at once, for each key.

    Args:
        keys: one for each repetition.
        number: N, pairs.
        dim: d.
        hidden: m, hidden units of a perceptron; None for a matrix.
        steps: of Adam, with a rate that falls along a cosine.
    """
    optimiser = optax.adam(optax.cosine_decay_schedule(0.3 if hidden is None else 0.1, steps, 0.02))

    def one(key: jax.Array) -> Array:
        key_pairs, key_weights = jax.random.split(key)
        asked, answers = _pairs(key_pairs, number, dim)
        if hidden is None:
            network: Any = eqx.nn.Linear(dim, dim, use_bias=False, key=key_weights)
        else:
            network = eqx.nn.MLP(
                dim, dim, hidden, 1, jax.nn.gelu, use_bias=False, use_final_bias=False, key=key_weights
            )
        weights, rest = eqx.partition(network, eqx.is_array)

        def loss(weights: Any) -> Array:
            scores = jax.vmap(eqx.combine(weights, rest))(asked) @ answers.T
            return -jnp.mean(jnp.diagonal(jax.nn.log_softmax(scores)))

        def step(carry: tuple[Any, Any], _: None) -> tuple[tuple[Any, Any], None]:
            weights, memory = carry
            change, memory = optimiser.update(jax.grad(loss)(weights), memory)
            return (optax.apply_updates(weights, change), memory), None

        (weights, _), _ = jax.lax.scan(step, (weights, optimiser.init(weights)), None, length=steps)
        return _share(jax.vmap(eqx.combine(weights, rest))(asked), answers)

    shares: Array = jax.lax.map(one, keys)
    return shares


def crossing(numbers: np.ndarray, shares: Float[np.ndarray, " N"], level: float) -> float:
    """Number of pairs at which the share recalled falls to a level, between the two numbers where it does.

    NaN where it never does, or is below it from the start.

    >>> round(crossing(np.array([4, 16, 64]), np.array([1.0, 0.75, 0.25]), 0.5), 9)
    32.0
    """
    below = np.flatnonzero(shares < level)
    if not below.size or below[0] == 0:
        return float("nan")
    i = int(below[0])
    part = (shares[i - 1] - level) / (shares[i - 1] - shares[i])
    return float(np.exp(np.log(numbers[i - 1]) * (1 - part) + np.log(numbers[i]) * part))


def exponents(sizes: np.ndarray, capacity: Float[np.ndarray, "S M"], *, logs: bool) -> Float[np.ndarray, " S"]:
    """Power of the size with which the capacity N grows, fitted for each repetition; ``logs`` fits N log N instead.

    >>> exponents(np.array([2.0, 4.0]), np.array([[3.0, 12.0]]), logs=False)
    array([2.])
    """
    grown = np.log(capacity * np.log(capacity) if logs else capacity)
    return np.array([np.polyfit(np.log(sizes), row, 1)[0] for row in grown])
