"""Laplace, Student-t, exponential-power and one-sided wells: limits, gradients, fixed points, edges."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import scipy.special

from probam.dynamics.recall import descend, recall
from probam.energies import generalized_normal, laplace, quadratic, student_t, supports
from probam.errors import InputError

Q, K, D = 6, 4, 3
RNG = np.random.default_rng(2)
QUERIES, MEMORIES = RNG.normal(size=(Q, D)), RNG.normal(size=(K, D))
RATES, WEIGHTS = RNG.uniform(0.5, 2.0, size=(K, D)), RNG.dirichlet(np.ones(K))
HALF = RNG.normal(size=(K, D, D))
MATRICES = HALF @ HALF.transpose(0, 2, 1) + np.eye(D)
DF = RNG.uniform(1.0, 9.0, size=K)


def _log_sum(terms: np.ndarray) -> np.ndarray:
    return np.asarray(-scipy.special.logsumexp(terms, axis=-1, b=WEIGHTS))


def _gap() -> np.ndarray:
    return QUERIES[:, None, :] - MEMORIES


def test_energies_are_their_formulas() -> None:
    np.testing.assert_allclose(
        laplace.energy(QUERIES, MEMORIES, RATES, WEIGHTS), _log_sum(-(RATES * np.abs(_gap())).sum(-1)), rtol=1e-13
    )
    np.testing.assert_allclose(
        generalized_normal.energy(QUERIES, MEMORIES, RATES, 1.6, WEIGHTS),
        _log_sum(-(RATES * np.abs(_gap()) ** 1.6).sum(-1)),
        rtol=1e-13,
    )
    np.testing.assert_allclose(
        generalized_normal.radial_energy(QUERIES, MEMORIES, RATES[:, 0], 1.0, WEIGHTS),
        _log_sum(-RATES[:, 0] * np.linalg.norm(_gap(), axis=-1)),
        rtol=1e-13,
    )
    form = np.einsum("qkd,kde,qke->qk", _gap(), MATRICES, _gap())
    np.testing.assert_allclose(
        student_t.energy(QUERIES, MEMORIES, MATRICES, DF, WEIGHTS),
        _log_sum(-(DF + D) / 2 * np.log1p(form / DF)),
        rtol=1e-13,
    )


def test_power_two_and_many_degrees_of_freedom_are_quadratic_wells() -> None:
    expected = quadratic.energy(QUERIES, MEMORIES, RATES, WEIGHTS)
    np.testing.assert_allclose(generalized_normal.energy(QUERIES, MEMORIES, RATES, 2.0, WEIGHTS), expected, rtol=1e-12)
    heavy = student_t.energy(QUERIES, MEMORIES, 2 * RATES, 1e9, WEIGHTS)
    np.testing.assert_allclose(heavy, expected, rtol=1e-7)
    np.testing.assert_allclose(
        student_t.update(QUERIES, MEMORIES, 2 * RATES, 1e9, WEIGHTS),
        quadratic.update(QUERIES, MEMORIES, RATES, WEIGHTS),
        rtol=1e-7,
    )


@pytest.mark.parametrize("stiffness", [1.3, RATES[:, 0], RATES, MATRICES], ids=("one", "K", "KD", "KDD"))
def test_the_student_t_update_is_a_preconditioned_gradient_step(stiffness: Any) -> None:
    of = (MEMORIES, stiffness, DF, WEIGHTS)
    shares = np.asarray(student_t.responsibilities(QUERIES, *of))
    matrices = np.broadcast_to(
        stiffness
        if np.ndim(stiffness) == 3
        else np.eye(D) * np.reshape(stiffness, (-1, 1, 1) if np.ndim(stiffness) < 2 else (K, 1, D)),
        (K, D, D),
    )
    form = np.einsum("qkd,kde,qke->qk", _gap(), matrices, _gap())
    curvature = np.einsum("qk,kde->qde", shares * (DF + D) / (DF + form), matrices)
    gradient = jax.grad(lambda v: jnp.sum(student_t.energy(v, *of)))(QUERIES)
    expected = QUERIES - np.linalg.solve(curvature, np.asarray(gradient)[..., None])[..., 0]
    np.testing.assert_allclose(student_t.update(QUERIES, *of), expected, rtol=1e-10, atol=1e-12)


def test_laplace_recall_ends_on_coordinates_of_memories_below_all_their_neighbours() -> None:
    of = {"memories": MEMORIES, "beta": 2 * RATES, "weights": WEIGHTS}
    energy: Callable[..., Any] = partial(laplace.energy, **of)
    recalled = recall(partial(laplace.update, **of), energy, QUERIES)
    assert np.asarray(recalled.converged).all()
    states = np.asarray(recalled.states)
    assert all((states[..., [d]] == MEMORIES[:, d]).any(axis=-1).all() for d in range(D))
    for d in range(D):
        for side in (-1e-4, 1e-4):
            assert np.all(energy(states + side * np.eye(D)[d]) > np.asarray(recalled.energy))


def test_a_levy_well_is_deepest_a_third_of_its_scale_above_its_edge() -> None:
    edge, scales = MEMORIES[:1], RATES[:1]
    energy = partial(supports.levy_energy, memories=edge, scales=scales)
    recalled = descend(energy, edge + np.array([[0.1, 0.5, 2.0], [3.0, 1.0, 0.2]]), max_steps=3000)
    np.testing.assert_allclose(recalled.states, np.broadcast_to(edge + scales / 3, (2, D)), rtol=1e-6)
    assert np.isposinf(energy(edge)).all()
    assert np.all(np.asarray(jax.grad(lambda v: jnp.sum(jnp.exp(-energy(v))))(edge - 1.0)) == 0)


def test_flat_wells_have_no_slope_inside_and_are_infinite_outside() -> None:
    for energy in (
        partial(supports.box_energy, memories=MEMORIES, half_widths=RATES, weights=WEIGHTS),
        partial(supports.ball_energy, memories=MEMORIES, radii=RATES[:, 0], weights=WEIGHTS),
    ):
        gap = _gap()
        inside = (
            np.all(np.abs(gap) <= RATES, -1)
            if "half_widths" in energy.keywords
            else np.linalg.norm(gap, axis=-1) <= RATES[:, 0]
        )
        weight_inside = inside @ WEIGHTS
        with np.errstate(divide="ignore"):
            np.testing.assert_allclose(energy(QUERIES), -np.log(weight_inside), rtol=1e-12)
        slope = np.asarray(
            jax.grad(lambda v, e=energy, weight_inside=weight_inside: jnp.sum(jnp.where(weight_inside > 0, e(v), 0)))(
                QUERIES
            )
        )
        assert np.all(slope == 0)
        assert np.isposinf(energy(np.full(D, 100.0)))


@pytest.mark.parametrize("kind", ["laplace", "power", "radial", "student_t"])
def test_single_precision_stays_single_and_peaks_have_finite_slopes(kind: str) -> None:
    memories = MEMORIES.astype(np.float32)
    energy = {
        "laplace": partial(laplace.energy, memories=memories, beta=np.float32(1.3)),
        "power": partial(generalized_normal.energy, memories=memories, beta=np.float32(1.3), power=1.2),
        "radial": partial(generalized_normal.radial_energy, memories=memories, beta=np.float32(1.3)),
        "student_t": partial(student_t.energy, memories=memories, stiffness=np.float32(1.3), df=np.float32(2)),
    }[kind]
    value, slope = jax.value_and_grad(lambda v: jnp.sum(energy(v)))(jnp.asarray(memories[0]))
    assert value.dtype == slope.dtype == jnp.float32
    assert np.isfinite(slope).all()


def test_bad_arguments_are_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"beta: expected shape \(\) or \(4,\) or \(4, 3\); got \(3,\)"):
        laplace.energy(QUERIES, MEMORIES, np.ones(3))
    with pytest.raises(InputError, match=r"beta: expected finite values above 0; got -1\.0"):
        laplace.update(QUERIES, MEMORIES, -1.0)
    with pytest.raises(InputError, match=r"power: expected a number of at least 1; got 0\.5"):
        generalized_normal.energy(QUERIES, MEMORIES, 1.0, 0.5)
    with pytest.raises(InputError, match=r"df: expected shape \(\) or \(4,\); got \(4, 3\)"):
        student_t.energy(QUERIES, MEMORIES, 1.0, RATES)
    with pytest.raises(InputError, match=r"radii: expected finite values above 0; got 0\.0"):
        supports.ball_energy(QUERIES, MEMORIES, 0.0)


@pytest.mark.parametrize("stiffness", [RATES, MATRICES], ids=["diagonal", "full"])
def test_the_student_t_energy_of_a_query_whose_square_overflows_is_that_of_fifty_digits(stiffness: Any) -> None:
    query = 1e160 * np.array([0.3, -1.0, 0.7])
    matrices = stiffness if stiffness.ndim == 3 else stiffness[:, :, None] * np.eye(D)
    with mpmath.workdps(50):
        v = mpmath.matrix([mpmath.mpf(float(x)) for x in query])
        forms = [
            (v.T * mpmath.matrix(matrix.tolist()) * v)[0] for matrix in matrices
        ]  # the memories are 160 digits away
        terms = [w * (1 + q / nu) ** (-(nu + D) / 2) for w, q, nu in zip(WEIGHTS, forms, DF, strict=True)]
        exact, shares = -mpmath.log(mpmath.fsum(terms)), [float(t / mpmath.fsum(terms)) for t in terms]
    np.testing.assert_allclose(student_t.energy(query, MEMORIES, stiffness, DF, WEIGHTS), float(exact), rtol=1e-13)
    np.testing.assert_allclose(
        student_t.responsibilities(query, MEMORIES, stiffness, DF, WEIGHTS), shares, rtol=1e-9, atol=1e-300
    )
    assert (np.abs(student_t.update(query, MEMORIES, stiffness, DF, WEIGHTS)) < 1e3).all()
