"""The differential equations of two-layer networks: exact solutions, descent, limits, guards."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.linalg import expm
from scipy.special import softmax

from probam.dynamics import two_layer as dynamics
from probam.dynamics.two_layer import euler, flow
from probam.energies import continuous_hopfield, two_layer
from probam.energies.lagrangians import LogCosh, LogSumExp, Power, Quadratic
from probam.energies.two_layer import Network, modern_hopfield
from probam.errors import InputError, NumericalError

RNG = np.random.default_rng(5)
residual = jax.jit(dynamics.residual)
energy = jax.jit(two_layer.energy)
MEMORIES = RNG.normal(size=(4, 3))
CURRENT = 0.2 * RNG.normal(size=3)
V, H = RNG.normal(size=(2, 3)), RNG.normal(size=(2, 4))
SOFTMAX = Network(MEMORIES, LogCosh(1.3), LogSumExp(2.0), CURRENT, tau_v=0.7, tau_h=0.3)


def test_a_linear_network_follows_the_matrix_exponential() -> None:
    xi = 0.4 * MEMORIES
    matrix = np.block([[-np.eye(3) / 0.7, xi.T / 0.7], [xi / 0.3, -np.eye(4) / 0.3]])
    rest = np.linalg.solve(matrix, -np.concatenate([CURRENT / 0.7, np.zeros(4)]))
    start = np.concatenate([V, H], axis=1)
    network = Network(xi, Quadratic(), Quadratic(), CURRENT, tau_v=0.7, tau_h=0.3)
    report = flow(network, V, H, horizon=1.7, record=4)
    end = rest + (start - rest) @ expm(1.7 * matrix).T
    np.testing.assert_allclose(report.visible, end[:, :3], rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(report.hidden, end[:, 3:], rtol=1e-7, atol=1e-8)
    assert report.times is not None
    assert report.energies is not None
    np.testing.assert_allclose(report.times, 1.7 * np.arange(5) / 4)
    for number, time in enumerate(np.asarray(report.times)):
        state = rest + (start - rest) @ expm(time * matrix).T
        expected = energy(state[:, :3], state[:, 3:], network)
        np.testing.assert_allclose(report.energies[number], expected, rtol=1e-6, atol=1e-7)


def test_the_energy_falls_by_the_integrated_dissipation_down_to_a_fixed_point() -> None:
    report = flow(SOFTMAX, V, H, horizon=200.0, tolerance=1e-7, record=400)
    assert report.energies is not None
    assert report.converged.all()
    assert (report.time < 200).all()
    assert (np.diff(report.energies, axis=0) <= 1e-9).all()
    np.testing.assert_array_equal(report.energies[-1], report.energy)  # filled up after the end

    def rate(_t: float, y: np.ndarray) -> np.ndarray:  # scipy, in NumPy
        v_rate = (softmax(2 * y[3:7]) @ MEMORIES - y[:3] + CURRENT) / 0.7
        h_rate = (MEMORIES @ np.tanh(1.3 * y[:3]) - y[3:7]) / 0.3
        f = softmax(2 * y[3:7])
        by_v = (v_rate**2 * 1.3 / np.cosh(1.3 * y[:3]) ** 2).sum()
        by_h = 2 * ((f * h_rate**2).sum() - (f @ h_rate) ** 2)
        return np.concatenate([v_rate, h_rate, [-0.7 * by_v - 0.3 * by_h]])

    first = energy(V, H, SOFTMAX)
    for q in range(2):
        ended = solve_ivp(rate, (0, 60), np.concatenate([V[q], H[q], [0.0]]), rtol=1e-10, atol=1e-12).y[:, -1]
        np.testing.assert_allclose(report.visible[q], ended[:3], atol=1e-6)
        np.testing.assert_allclose(report.energy[q], first[q] + ended[7], rtol=1e-7)
    fixed = softmax(2 * np.asarray(report.hidden), axis=-1) @ MEMORIES + CURRENT
    np.testing.assert_allclose(report.visible, fixed, atol=1e-6)


def test_a_fast_hidden_layer_is_the_limit_of_short_hidden_times() -> None:
    limit = flow(SOFTMAX, V, horizon=0.8, fast_hidden=True)
    misses = []
    for tau_h in (1e-2, 1e-3):
        network = Network(MEMORIES, LogCosh(1.3), LogSumExp(2.0), CURRENT, tau_v=0.7, tau_h=tau_h)
        report = flow(network, V, horizon=0.8, solver="implicit", rtol=1e-7, max_steps=4000)
        misses.append(np.abs(report.visible - limit.visible).max())
    assert misses[0] < 0.1
    assert misses[1] == pytest.approx(misses[0] / 10, rel=0.2)  # first order in tau_h


def test_euler_steps_approach_the_flow_in_proportion_to_their_size() -> None:
    exact = solve_ivp(
        lambda _t, y: np.concatenate(
            [
                (softmax(2 * y[3:]) @ MEMORIES - y[:3] + CURRENT) / 0.7,
                (MEMORIES @ np.tanh(1.3 * y[:3]) - y[3:]) / 0.3,
            ]
        ),
        (0, 1),
        np.concatenate([V[0], H[0]]),
        rtol=1e-11,
        atol=1e-12,
    ).y[:, -1]
    errors = []
    for steps in (100, 200):
        report = euler(SOFTMAX, V, H, step=1 / steps, max_steps=steps)
        np.testing.assert_allclose(report.time, 1.0)
        errors.append(np.abs(np.concatenate([report.visible[0], report.hidden[0]]) - exact).max())
    assert errors[1] == pytest.approx(errors[0] / 2, rel=0.05)


def test_a_unit_euler_step_with_fast_hidden_units_is_attention() -> None:
    network = modern_hopfield(MEMORIES, 1.7, tau_v=0.4)
    report = euler(network, V, step=0.4, max_steps=1, record=1, fast_hidden=True)
    np.testing.assert_allclose(report.visible, continuous_hopfield.update(V, MEMORIES, 1.7), rtol=1e-12)
    np.testing.assert_allclose(report.hidden, report.visible @ MEMORIES.T, rtol=1e-12)
    assert report.energies is not None
    assert report.times is not None
    np.testing.assert_allclose(report.energies[0], continuous_hopfield.energy(V, MEMORIES, 1.7), rtol=1e-12)
    np.testing.assert_allclose(report.times, [0, 0.4])


def test_both_integrators_come_to_rest_at_the_same_fixed_point() -> None:
    by_euler = euler(SOFTMAX, V, H, step=0.2, max_steps=4000, tolerance=1e-12)
    by_flow = flow(SOFTMAX, V, H, horizon=200.0, tolerance=1e-7, record=400)
    assert by_euler.converged.all()
    np.testing.assert_allclose(by_euler.visible, by_flow.visible, atol=1e-5)
    assert (residual(by_euler.visible, by_euler.hidden, SOFTMAX) < 1e-11).all()
    np.testing.assert_allclose(by_euler.residual, residual(by_euler.visible, by_euler.hidden, SOFTMAX))


def test_residual_is_zero_only_at_rest() -> None:
    network = modern_hopfield(MEMORIES[:1], 2.0)
    rest = MEMORIES[:1]
    assert float(residual(rest, two_layer.answer(rest, network), network)[0]) == pytest.approx(0, abs=1e-15)
    assert float(residual(V[0], H[0, :1], network)) > 0.1


def test_runaway_states_are_an_error_and_not_numbers() -> None:
    linear = Network(3 * MEMORIES, Quadratic(), Quadratic(), CURRENT, tau_v=0.7, tau_h=0.3)
    with pytest.raises(NumericalError, match=r"flow: 2 of 2 states left the finite numbers.*not be bounded below"):
        flow(linear, V, H, horizon=1000.0, record=4)
    stiff = Network(MEMORIES, LogCosh(1.3), LogSumExp(2.0), CURRENT, tau_v=0.7, tau_h=1e-6)
    with pytest.raises(NumericalError, match=r"flow: 2 of 2 states stopped before the horizon.*implicit solver"):
        flow(stiff, V, H, horizon=200.0, tolerance=1e-7, record=400)


def test_flow_is_differentiable_and_keeps_float32() -> None:
    """K = 1: v relaxes to the memory as exp(-t / tau), and the slope in the start is that factor."""
    network = modern_hopfield(np.float32(MEMORIES[:1]), 2.0)

    def end(v: jax.Array) -> tuple[jax.Array, jax.Array]:
        visible = flow(network, v, horizon=1.5, fast_hidden=True, max_steps=256).visible
        return visible[1], visible

    slope, result = jax.jit(jax.grad(end, has_aux=True))(jnp.asarray(V[0], jnp.float32))
    assert result.dtype == slope.dtype == jnp.float32
    np.testing.assert_allclose(result, MEMORIES[0] + (V[0] - MEMORIES[0]) * np.exp(-1.5), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(slope, [0, np.exp(-1.5), 0], atol=1e-3)


def test_bad_arguments_are_named() -> None:
    network = Network(MEMORIES, Quadratic(), Power(2))
    with pytest.raises(InputError, match="horizon: expected a finite time above 0; got -1"):
        flow(network, V, horizon=-1.0)
    with pytest.raises(InputError, match="solver: expected 'explicit' or 'implicit'"):
        flow(network, V, horizon=1.0, solver="magic")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="visible: 1 of 2 states are not finite"):
        flow(network, np.array([[0.0, 1.0, np.nan], [0.0, 1.0, 2.0]]), horizon=1.0)
    with pytest.raises(InputError, match="hidden: with fast_hidden=True"):
        flow(network, V, H, horizon=1.0, fast_hidden=True)
    with pytest.raises(InputError, match=r"step: expected a time in \(0, 2 tau\)"):
        euler(SOFTMAX, V, H, step=0.7)
    with pytest.raises(InputError, match=r"rtol: expected a number in \(0, 1\)"):
        flow(network, V, horizon=1.0, rtol=0.0)
