"""Gradients of the reconstruction error: closed forms, finite differences, the limit of many steps; what is learned."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from probam.dynamics.learning import fixed_point, learn, reconstruction_error, unrolled
from probam.energies.arguments import Logs
from probam.errors import InputError, NumericalError

N, K, D = 6, 4, 3
BETA = 0.7
RNG = np.random.default_rng(0)
DATA, MEMORIES = RNG.normal(size=(N, D)), RNG.normal(size=(K, D))
WEIGHTS = np.array([0.4, 2.0, 1.0, 0.6])
HIDDEN = RNG.random((N, D)) < 0.4


def _shares(v: np.ndarray, weights: np.ndarray) -> np.ndarray:
    logits = np.log(weights) - BETA * ((v[:, None] - MEMORIES) ** 2).sum(-1)
    shares = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(shares / shares.sum(1, keepdims=True))


def _central(loss: Callable[[np.ndarray], float], at: np.ndarray, h: float = 1e-5) -> np.ndarray:
    slope = np.zeros_like(at)
    for place in np.ndindex(*at.shape):
        move = np.zeros_like(at)
        move[place] = h
        slope[place] = (loss(at + move) - loss(at - move)) / (2 * h)
    return slope


def test_gradient_of_one_unit_step_is_the_closed_form_of_claim_a10() -> None:
    r = _shares(DATA, WEIGHTS)
    m = r @ MEMORIES
    expected = np.zeros((K, D))
    for n in range(N):
        for k in range(K):
            inner = (MEMORIES[k] - m[n]) @ (DATA[n] - m[n])
            expected[k] -= 2 * r[n, k] * ((DATA[n] - m[n]) - 2 * BETA * (MEMORIES[k] - DATA[n]) * inner)
    slope = jax.jit(jax.grad(lambda mu: reconstruction_error(mu, DATA, BETA, WEIGHTS, num_steps=1)))(MEMORIES)
    np.testing.assert_allclose(slope, expected, rtol=1e-11)


@pytest.mark.parametrize("num_steps", [4, None], ids=["unrolled", "implicit"])
def test_gradients_of_the_masked_loss_are_those_of_finite_differences(num_steps: int | None) -> None:
    fill = np.array([0.3, -0.2, 0.1])
    loss = jax.jit(
        lambda mu, beta, w: reconstruction_error(
            mu, DATA, beta, w, num_steps=num_steps, step=0.6, hidden=HIDDEN, fill=fill
        )
    )
    slopes = jax.jit(jax.grad(loss, (0, 1, 2)))(MEMORIES, BETA, WEIGHTS)
    np.testing.assert_allclose(slopes[0], _central(lambda mu: loss(mu, BETA, WEIGHTS), MEMORIES), rtol=2e-7, atol=2e-8)
    by_beta = _central(lambda beta: loss(MEMORIES, beta, WEIGHTS), np.array(BETA))
    np.testing.assert_allclose(slopes[1], by_beta, rtol=2e-7)
    by_weights = _central(lambda w: loss(MEMORIES, BETA, w), WEIGHTS)
    np.testing.assert_allclose(slopes[2], by_weights, rtol=2e-7, atol=2e-8)


def test_implicit_derivative_is_the_formula_of_claim_a10() -> None:
    x, direction = DATA[:1], np.array([0.2, -1.0, 0.7])

    @jax.jit
    def pulled(mu: jax.Array) -> tuple[jax.Array, jax.Array]:
        v, pull = jax.vjp(lambda mu: fixed_point(mu, x, BETA, WEIGHTS)[0], mu)
        return v, pull(jnp.asarray(direction))[0]

    v, result = pulled(MEMORIES)
    r = _shares(np.asarray(v)[None], WEIGHTS)[0]
    from_v = MEMORIES - np.asarray(v)
    covariance = np.einsum("k,ki,kj->ij", r, from_v, from_v)  # their mean is zero at a fixed point
    expected = np.empty((K, D))
    for k in range(K):
        direct = r[k] * (np.eye(D) - 2 * BETA * np.outer(from_v[k], from_v[k]))
        expected[k] = direction @ np.linalg.solve(np.eye(D) - 2 * BETA * covariance, direct)
    np.testing.assert_allclose(result, expected, rtol=1e-10, atol=1e-13)


def test_implicit_gradient_is_the_limit_of_the_unrolled_one() -> None:
    def slope(num_steps: int | None) -> np.ndarray:
        loss = partial(reconstruction_error, num_steps=num_steps)
        return np.asarray(jax.jit(jax.grad(loss))(jnp.asarray(MEMORIES), DATA, BETA))

    implicit = slope(None)
    np.testing.assert_allclose(slope(400), implicit, rtol=1e-9, atol=1e-11)
    assert np.abs(slope(2) / implicit - 1).max() > 1e-2  # two steps are not many


def test_fixed_point_depends_on_held_coordinates_only() -> None:
    free = HIDDEN[:1]

    def summed(x: jax.Array) -> jax.Array:
        return jnp.sum(jnp.sin(fixed_point(MEMORIES, x, BETA, free=free)))

    slope = jax.jit(jax.grad(summed))(jnp.asarray(DATA[:1]))
    quick = jax.jit(summed)
    clamped = _central(lambda x: quick(x), DATA[:1]) * ~free
    np.testing.assert_allclose(slope, clamped, rtol=1e-6, atol=1e-9)
    assert np.abs(clamped).max() > 0.1


def test_unrolled_steps_are_euler_steps_and_hold_what_is_not_free() -> None:
    v = DATA.copy()
    for _ in range(3):
        v = v + 0.4 * HIDDEN * (_shares(v, WEIGHTS) @ MEMORIES - v)
    result = unrolled(MEMORIES, DATA, BETA, Logs(np.log(WEIGHTS)), num_steps=3, step=0.4, free=HIDDEN)
    np.testing.assert_allclose(result, v, rtol=1e-12)


def test_masked_loss_counts_hidden_coordinates_only() -> None:
    start = np.where(HIDDEN, 0.0, DATA)
    v = start + HIDDEN * (_shares(start, np.ones(K)) @ MEMORIES - start)
    result = reconstruction_error(MEMORIES, DATA, BETA, num_steps=1, hidden=HIDDEN)
    np.testing.assert_allclose(result, ((v - DATA) ** 2)[HIDDEN].sum(), rtol=1e-12)


MEANS = 3.0 * np.array([[1, 1, 1, -1, -1], [-1, -1, 1, 1, -1], [-1, 1, -1, -1, 1]])
LABELS = np.repeat([0, 1, 2], [40, 25, 30])
GROUPS = MEANS[LABELS] + np.random.default_rng(1).normal(scale=0.4, size=(95, 5))


@pytest.mark.parametrize("num_steps", [10, None], ids=["unrolled", "implicit"])
def test_learning_finds_the_means_of_separated_groups(num_steps: int | None) -> None:
    start = 0.6 * MEANS
    learned = learn(jax.random.key(0), GROUPS, start, 0.5, num_steps=num_steps, step=0.5, num_epochs=150)
    expected = np.array([GROUPS[k == LABELS].mean(0) for k in range(3)])
    np.testing.assert_allclose(learned.memories, expected, atol=0.4 / np.sqrt(25))
    assert learned.losses[-1] < 0.5 * learned.losses[0]


def test_memories_learned_under_a_mask_complete_patterns() -> None:
    learned = learn(jax.random.key(0), GROUPS, 0.6 * MEANS, 0.5, step=0.5, masked=0.2, batch_size=10, num_epochs=60)
    hidden = np.arange(95)[:, None] % 5 == np.arange(5)
    error = reconstruction_error(learned.memories, GROUPS, 0.5, num_steps=10, step=0.5, hidden=hidden) / 95
    before = reconstruction_error(0.6 * MEANS, GROUPS, 0.5, num_steps=10, step=0.5, hidden=hidden) / 95
    assert error < 0.3 < 1 < before  # the noise of a coordinate has variance 0.16


def test_one_memory_learns_the_mean_whatever_beta() -> None:
    x = DATA
    learned = learn(jax.random.key(1), x, MEMORIES[:1], 3.0, num_epochs=400, learning_rate=0.1, step=0.5)
    np.testing.assert_allclose(learned.memories[0], x.mean(0), atol=1e-6)


def test_learning_is_the_same_for_the_same_key_and_takes_the_dtype_of_the_data() -> None:
    run = partial(learn, memories=MEMORIES[:2], beta=1.0, num_epochs=3, batch_size=4, masked=0.3)
    one, same, other = (run(jax.random.key(seed), DATA) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.memories, same.memories)
    assert not np.array_equal(one.memories, other.memories)
    single = learn(jax.random.key(3), np.float32(DATA), np.float32(MEMORIES[:2]), np.float32(1), num_epochs=2)
    assert single.memories.dtype == single.losses.dtype == np.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_epochs": 0}, "num_epochs: expected"),
        ({"batch_size": 7}, "batch_size: expected a whole number from 1 to 6"),
        ({"masked": 1.0}, "masked: expected a probability"),
        ({"step": 2.0}, r"step: expected a number in \(0, 2\)"),
        ({"num_steps": 0}, "num_steps: expected"),
        ({"learning_rate": -1.0}, "learning_rate: expected"),
    ],
)
def test_wrong_settings_are_named(options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        learn(jax.random.key(0), DATA, MEMORIES, BETA, **options)  # type: ignore[arg-type]


def test_a_loss_beyond_the_finite_numbers_is_reported() -> None:
    with pytest.raises(NumericalError, match="left the finite numbers"):
        learn(jax.random.key(0), np.float32(DATA) * np.float32(1e30), np.float32(MEMORIES), 1.0, num_epochs=1)
