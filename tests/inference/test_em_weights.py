"""Sample weights, the stop and the sums of several devices in closed-form EM."""

import math
import os
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from probam.errors import InputError
from probam.family import Family
from probam.inference.common import rows as em_rows
from probam.inference.common.coordinates import Coordinates
from probam.inference.common.start import kmeans_plus_plus, starting_params
from probam.inference.em import engine as em
from probam.inference.em.steps import EMState, remaining_rise
from probam.models.gaussian import Gaussian
from probam.models.laplace import Laplace
from probam.models.mixture import Mixture, mixture
from probam.models.weights import weight_prior


def _data(num_data: int = 60) -> np.ndarray:
    rng = np.random.default_rng(3)
    return rng.normal(size=(num_data, 2)) + 3 * rng.integers(0, 3, (num_data, 1))


def _model(x: np.ndarray, family: Family) -> Mixture:
    return mixture(x, family=family, weights=weight_prior("dirichlet"), num_components=3)


def _start(model: Mixture, x: np.ndarray) -> dict[str, jax.Array]:
    return jax.jit(lambda key: starting_params(key, model, jnp.asarray(x)))(jax.random.key(1))


def _steps(model: Mixture, x: np.ndarray, **options: Any) -> tuple[EMState, np.ndarray]:
    """Exactly twelve steps."""
    return em.fit_params(
        jax.random.key(0), model, jnp.asarray(x), tolerance=-math.inf, max_iterations=12, **options
    ).ends


def _assert_same(one: EMState, two: EMState) -> None:
    np.testing.assert_allclose(one.objective, two.objective, rtol=1e-11)
    for name, value in one.params.items():
        np.testing.assert_allclose(value, two.params[name], rtol=1e-8, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("family", [Gaussian("diagonal"), Laplace()], ids=["additive", "from the data"])
def test_a_datum_of_weight_three_is_three_data(family: Family) -> None:
    x = _data()
    weight = np.random.default_rng(0).integers(1, 4, len(x))
    model = _model(x, family)
    start = _start(model, x)
    weighted, trace = _steps(model, x, start=start, sample_weight=weight)
    repeated, expected = _steps(model, np.repeat(x, weight, axis=0), start=start)
    _assert_same(weighted, repeated)
    np.testing.assert_allclose(trace, expected, rtol=1e-11)


def test_a_datum_of_weight_zero_is_left_out_to_the_bit() -> None:
    x = _data()
    weight = np.where(np.arange(len(x)) % 4 == 1, 0.0, 0.5)
    model = _model(x, Gaussian("full"))
    given, _ = _steps(model, x, restarts=2, sample_weight=weight)
    rest, _ = _steps(model, x[weight > 0], restarts=2, sample_weight=weight[weight > 0])
    for name, value in given.params.items():
        np.testing.assert_array_equal(value, rest.params[name])


def test_the_objective_is_the_weighted_log_likelihood() -> None:
    x = _data()
    weight = np.random.default_rng(1).gamma(1.0, 1.0, len(x))
    model = _model(x, Gaussian("spherical"))
    result = em.run(
        jax.random.key(0), model, jnp.asarray(x), estimate="ml", restarts=2, sample_weight=weight, max_iterations=5000
    )
    params = {name: jnp.asarray(value[0, 0]) for name, value in result.sites.items()}
    log_prob = np.asarray(model.mixture(params).log_prob(jnp.asarray(x)))
    np.testing.assert_allclose(result.stats["lp"][0, 0], weight @ log_prob, rtol=1e-6)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.ones(3), r"expected 60 numbers, one for each datum; got shape \(3,\)"),
        (np.r_[-1.0, np.ones(59)], "row 0 has -1"),
        (np.zeros(60), "every datum has weight zero"),
    ],
)
def test_weights_that_are_none_are_refused(weight: np.ndarray, message: str) -> None:
    x = _data()
    with pytest.raises(InputError, match=message):
        em.run(jax.random.key(0), _model(x, Gaussian("diagonal")), jnp.asarray(x), sample_weight=weight)


def test_a_point_of_weight_zero_is_no_seed() -> None:
    points, weight = jnp.asarray(_data()), np.ones(60)
    weight[::2] = 0
    draw = jax.jit(jax.vmap(lambda key: kmeans_plus_plus(key, points, 4, jnp.asarray(weight))[0]))
    assert (np.asarray(draw(jax.random.split(jax.random.key(0), 50))) % 2 == 1).all()


def test_aitken_is_exact_for_a_geometric_sequence() -> None:
    limit, size, ratio = -3.0, 2.0, 0.97
    height = limit - size * ratio ** np.arange(6)
    rises = jnp.asarray(np.diff(height))
    left = np.asarray(remaining_rise(rises[1:], rises[:-1]))
    np.testing.assert_allclose(left, limit - height[2:], rtol=1e-10)
    assert np.isinf(remaining_rise(jnp.asarray([2.0, 1.0]), jnp.asarray([1.0, np.inf]))).all()


def test_aitken_stops_a_slow_run_at_its_end_and_the_tolerance_long_before() -> None:
    rng = np.random.default_rng(8)
    x = jnp.asarray(rng.normal(size=(400, 1)) + 2.0 * rng.integers(0, 2, (400, 1)))
    model = mixture(np.asarray(x), family=Gaussian("diagonal"), weights=weight_prior("dirichlet"), num_components=2)
    start = {"loc": jnp.array([[-1.0], [3.0]]), "precision": jnp.ones((2, 1)), "proportions": jnp.array([0.5, 0.5])}
    heights = {}
    for stop, tolerance in (("tolerance", 1e-13), ("tolerance", 1e-5), ("aitken", 1e-5)):
        states, _ = em.fit_params(
            jax.random.key(0), model, x, start=start, stop=stop, tolerance=tolerance, max_iterations=20000
        ).ends
        assert states.done.all()
        heights[stop, tolerance] = float(states.objective[0])
    left = {stop: heights["tolerance", 1e-13] - heights[stop, 1e-5] for stop in ("tolerance", "aitken")}
    asked = 1e-5 * len(x)
    assert left["aitken"] < 2 * asked
    assert left["tolerance"] > 10 * asked


def test_sums_of_several_parts_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two parts on one device: what two devices do, without a second one."""
    x = _data(61)
    weight = np.random.default_rng(5).gamma(2.0, 1.0, len(x))
    model = _model(x, Gaussian("full"))
    whole, trace = _steps(model, x, restarts=2, sample_weight=weight)

    def halves(_: Mixture, x: jax.Array, weight: np.ndarray) -> list[em_rows.Rows]:
        return [em_rows.Rows(x[:30], jnp.asarray(weight[:30])), em_rows.Rows(x[30:], jnp.asarray(weight[30:]))]

    monkeypatch.setattr(em, "rows_on", halves)
    parts, traces = _steps(model, x, restarts=2, sample_weight=weight)
    _assert_same(whole, parts)
    np.testing.assert_allclose(trace, traces, rtol=1e-11)


@pytest.mark.parametrize("num_data", [273, 300])
def test_rows_that_fill_up_change_neither_density_nor_fit(num_data: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(num_data)
    x = rng.normal(size=(num_data, 2)) + 4 * rng.integers(0, 2, (num_data, 1))
    model = _model(x, Gaussian("full"))
    (rows,) = em_rows.rows_on(model, jnp.asarray(x), None)
    assert rows.weight is not None
    assert len(rows.x) == {273: 288, 300: 320}[num_data]
    coordinates = Coordinates(model)
    filled = Coordinates(model.with_row_weight(rows.weight))
    free = {name: jnp.asarray(rng.normal(size=shape)) for name, shape in coordinates.shapes.items()}
    plain, slope = jax.value_and_grad(coordinates.log_joint)(free, jnp.asarray(x))
    with_copies, its_slope = jax.value_and_grad(filled.log_joint)(free, rows.x)
    np.testing.assert_allclose(with_copies, plain, rtol=1e-12)
    for name, values in slope.items():
        np.testing.assert_allclose(its_slope[name], values, rtol=1e-12, atol=1e-12 * float(jnp.abs(values).max()))
    copies, trace = _steps(model, x, restarts=2)
    monkeypatch.setattr(em, "rows_on", lambda _, x, __: [em_rows.Rows(x, None)])
    alone, traces = _steps(model, x, restarts=2)
    _assert_same(copies, alone)
    np.testing.assert_allclose(trace, traces, rtol=1e-11)


def test_rows_are_filled_up_to_a_few_numbers_by_an_eighth_at_most() -> None:
    numbers = {}
    for num_data in range(1, 1025):
        x, weight = em_rows.filled(np.arange(num_data, dtype=float)[:, None], None)
        assert len(x) == len(weight) <= 1.125 * num_data
        np.testing.assert_array_equal(x[weight > 0, 0], np.arange(num_data))
        numbers[num_data] = len(x)
    assert len({numbers[num_data] for num_data in range(257, 513)}) == 8


TWO_DEVICES = """
import jax, numpy as np
jax.config.update("jax_enable_x64", True)
from probam import placement
from probam.inference.common import rows as em_rows
from probam.inference.em import engine as em
from probam.models.gaussian import Gaussian
from probam.models.mixture import mixture
from probam.models.weights import weight_prior
assert len(jax.devices()) == 2
rng = np.random.default_rng(0)
x = rng.normal(size=(301, 3)) + 2 * rng.integers(0, 2, (301, 1))
model = mixture(x, family=Gaussian("diagonal"), weights=weight_prior("dirichlet"), num_components=3)
def heights():
    found = em.fit_params(jax.random.key(0), model, jax.numpy.asarray(x), restarts=2, max_iterations=30, tolerance=1e-9)
    return found.ends
one, _ = heights()
placement._WORTH_SPREADING = 0
assert len(em_rows.rows_on(model, jax.numpy.asarray(x), None)) == 2
two, _ = heights()
for name in one.params:
    np.testing.assert_allclose(one.params[name], two.params[name], rtol=1e-7, atol=1e-9)
"""


def test_two_devices_end_where_one_does() -> None:
    two = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    flags = os.environ | {"XLA_FLAGS": two, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", TWO_DEVICES], env=flags, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
