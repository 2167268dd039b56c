"""Lagrangians against closed forms, numerical suprema and central differences."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, logsumexp, softmax

from probam.energies.lagrangians import (
    AbsoluteValue,
    Lagrangian,
    LayerNorm,
    LogCosh,
    LogSumExp,
    Power,
    Quadratic,
    RectifiedPower,
    Softplus,
)
from probam.errors import InputError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 5))
SHIFT = RNG.normal(size=5)


def layer_norm(x: np.ndarray) -> np.ndarray:
    return 1.3 * (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 0.02) + SHIFT


# the object, its value and its activation as the literature writes them
KINDS: dict[str, tuple[Lagrangian, Any, Any]] = {
    "quadratic": (Quadratic(), lambda x: (x**2).sum(-1) / 2, lambda x: x),
    "softmax": (
        LogSumExp(1.7),
        lambda x: logsumexp(1.7 * x, axis=-1) / 1.7,
        lambda x: softmax(1.7 * x, axis=-1),
    ),
    "cube": (Power(3), lambda x: (x**3).sum(-1), lambda x: 3 * x**2),
    "fourth power": (Power(4), lambda x: (x**4).sum(-1), lambda x: 4 * x**3),
    "rectified cube": (
        RectifiedPower(3),
        lambda x: (np.maximum(x, 0) ** 3).sum(-1),
        lambda x: 3 * np.maximum(x, 0) ** 2,
    ),
    "tanh": (
        LogCosh(0.8),
        lambda x: np.log(2 * np.cosh(0.8 * x)).sum(-1) / 0.8,
        lambda x: np.tanh(0.8 * x),
    ),
    "logistic": (
        Softplus(2.2),
        lambda x: np.log1p(np.exp(2.2 * x)).sum(-1) / 2.2,
        lambda x: expit(2.2 * x),
    ),
    "sign": (AbsoluteValue(), lambda x: np.abs(x).sum(-1), np.sign),
    "layer norm": (
        LayerNorm(1.3, SHIFT, 0.02),
        lambda x: 5 * 1.3 * np.sqrt(x.var(-1) + 0.02) + x @ SHIFT,
        layer_norm,
    ),
}
CONVEX = [name for name, (kind, _, _) in KINDS.items() if kind.is_convex]


@jax.jit
def evaluate(kind: Lagrangian, x: Any, direction: Any) -> dict[str, jax.Array]:
    return {
        "value": kind(x),
        "activation": kind.activation(x),
        "legendre": kind.legendre(x),
        "product": kind.curvature(x, direction),
    }


conjugate = jax.jit(lambda kind, f: kind.conjugate(f))


@pytest.mark.parametrize("name", KINDS)
def test_value_activation_and_curvature_are_those_of_the_literature(name: str) -> None:
    kind, value, activation = KINDS[name]
    direction = RNG.normal(size=X.shape)
    quantities = evaluate(kind, X, direction)
    np.testing.assert_allclose(quantities["value"], value(X), rtol=1e-13)
    np.testing.assert_allclose(quantities["activation"], activation(X), rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(quantities["legendre"], (X * activation(X)).sum(-1) - value(X), rtol=1e-12, atol=1e-13)
    difference = (activation(X + 1e-6 * direction) - activation(X - 1e-6 * direction)) / 2e-6
    np.testing.assert_allclose(quantities["product"], difference, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("name", CONVEX)
def test_a_convex_lagrangian_reaches_its_conjugate_at_its_own_activation(name: str) -> None:
    kind, _, _ = KINDS[name]
    quantities = evaluate(kind, X, X)
    np.testing.assert_allclose(
        conjugate(kind, quantities["activation"]), quantities["legendre"], rtol=1e-12, atol=1e-13
    )


# activations strictly inside the domain of the conjugate, not made by the activation function
INSIDE = {
    "quadratic": RNG.normal(size=5),
    "softmax": RNG.dirichlet(np.ones(5)),
    "fourth power": RNG.normal(size=5),
    "rectified cube": RNG.uniform(0.1, 2, size=5),
    "tanh": RNG.uniform(-0.9, 0.9, size=5),
    "logistic": RNG.uniform(0.1, 0.9, size=5),
    "layer norm": SHIFT + 0.6 * (SHIFT - SHIFT.mean()) / SHIFT.std(),
}


@pytest.mark.parametrize("name", INSIDE)
def test_the_conjugate_is_the_supremum_of_the_bilinear_form_minus_the_lagrangian(name: str) -> None:
    kind, value, activation = KINDS[name]
    f = INSIDE[name]
    best = minimize(  # type: ignore[call-overload]
        lambda x: float(value(x) - x @ f),
        np.zeros(5),
        jac=lambda x: np.asarray(activation(x) - f),
        method="BFGS",
        options={"gtol": 1e-9},
    )
    np.testing.assert_allclose(conjugate(kind, f), -best.fun, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(
    ("kind", "outside"),
    [
        (LogSumExp(2.0), [0.5, 0.4, 0.0]),
        (LogSumExp(2.0), [1.2, -0.2, 0.0]),
        (RectifiedPower(3), [1.0, -0.1, 2.0]),
        (RectifiedPower(1), [0.5, 1.1, 0.0]),
        (Power(1), [1.0, 1.0, 0.9]),
        (LogCosh(), [0.2, -1.1, 0.0]),
        (Softplus(), [0.2, 1.1, 0.5]),
        (AbsoluteValue(), [1.0, -1.2, 0.0]),
        (LayerNorm(1.0), [0.4, 0.2, 0.0]),
        (LayerNorm(0.1), [1.0, -1.0, 0.0]),
    ],
)
def test_the_conjugate_is_infinite_off_its_domain(kind: Lagrangian, outside: list[float]) -> None:
    assert float(conjugate(kind, np.array(outside))) == np.inf


def test_the_conjugate_of_a_bounded_activation_is_zero_on_its_whole_domain() -> None:
    for kind, f in ((AbsoluteValue(), [1.0, -1.0, 0.3]), (RectifiedPower(1), [0.0, 1.0, 0.4]), (Power(1), [1.0] * 3)):
        assert float(conjugate(kind, np.array(f))) == 0


@pytest.mark.parametrize("name", ["softmax", "layer norm"])
def test_the_hessian_of_a_normalising_layer_is_flat_along_the_constant_vector_only(name: str) -> None:
    kind, _, _ = KINDS[name]
    hessian = jax.jit(jax.vmap(lambda kind, e: kind.curvature(X[0], e), (None, 0)))(kind, np.eye(5))
    np.testing.assert_allclose(hessian @ np.ones(5), np.zeros(5), atol=1e-14)
    spectrum = np.linalg.eigvalsh(hessian)
    assert abs(spectrum[0]) < 1e-14
    assert (spectrum[1:] > 1e-3).all()


def test_odd_plain_powers_are_not_convex_and_say_so() -> None:
    assert [Power(n).is_convex for n in (1, 2, 3, 4, 5)] == [True, True, False, True, False]
    with pytest.raises(InputError, match="not convex and has no finite conjugate; use RectifiedPower\\(3\\)"):
        Power(3).conjugate(np.ones(2))


def test_a_common_current_of_1e8_costs_the_softmax_no_digits_of_its_entropy() -> None:
    x = np.array([0.25, -1.5, 0.5])
    legendre = evaluate(LogSumExp(2.0), 1e8 + x, x)["legendre"]
    f = softmax(2 * x)
    np.testing.assert_allclose(legendre, (f * np.log(f)).sum() / 2, rtol=1e-12)


def test_far_currents_give_finite_values_and_slopes() -> None:
    x = np.array([1e8, -1e8, 0.0])
    for kind in (LogSumExp(3.0), LogCosh(3.0), Softplus(3.0), LayerNorm()):
        quantities = evaluate(kind, x, np.ones(3))
        assert all(np.isfinite(part).all() for part in quantities.values())


def test_a_lagrangian_is_a_pytree_whose_numbers_are_mapped_and_differentiated() -> None:
    betas = np.array([0.5, 1.0, 3.0])
    values = jax.jit(jax.vmap(lambda beta: LogSumExp(beta)(X[0])))(betas)
    np.testing.assert_allclose(values, [logsumexp(b * X[0]) / b for b in betas], rtol=1e-13)
    slope = jax.jit(jax.grad(lambda kind: kind(X[0])))(LogSumExp(1.0)).inverse_temperature
    step = 1e-6
    change = [logsumexp(b * X[0]) / b for b in (1 + step, 1 - step)]
    np.testing.assert_allclose(slope, (change[0] - change[1]) / (2 * step), rtol=1e-8)


@pytest.mark.parametrize("name", KINDS)
def test_float32_stays_float32(name: str) -> None:
    kind, value, _ = KINDS[name]
    with jax.enable_x64(False):
        quantities = evaluate(kind, jnp.asarray(X, jnp.float32), jnp.asarray(X, jnp.float32))
    assert {part.dtype for part in quantities.values()} == {jnp.dtype("float32")}
    np.testing.assert_allclose(quantities["value"], value(X), rtol=1e-5)


def test_numbers_out_of_range_are_named() -> None:
    with pytest.raises(InputError, match="inverse_temperature: expected finite values above 0; got -1"):
        LogSumExp(-1.0)(X)
    with pytest.raises(InputError, match="eps: expected finite values above 0; got 0"):
        LayerNorm(eps=0.0)(X)
    with pytest.raises(InputError, match=r"n: expected a whole number of at least 1; got 2\.5"):
        Power(2.5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="x: expected shape"):
        Quadratic()(1.0)
