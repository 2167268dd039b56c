"""Numbers that go with B10, B12, B13, C6, C9 and D3, at fifty digits where the entries give that many."""

from collections.abc import Callable
from itertools import product
from typing import Any

import jax
import mpmath as mp
import numpy as np
import pytest

from probam.claims.claim import claim
from probam.claims.verify import case_inputs
from probam.energies import continuous_hopfield, token_energies, two_layer
from probam.energies.lagrangians import LogCosh, LogSumExp, Quadratic, RectifiedPower
from probam.energies.two_layer import Network, dense_associative_memory

Vector = list[Any]
RNG = np.random.default_rng(11)


def _printed_error(claim_id: str, case_name: str) -> float:
    one = claim(claim_id)
    (case,) = (case for case in one.cases if case.name == case_name)
    return one.error(case_inputs(one, case), "printed")


def _exact(values: np.ndarray) -> Any:
    """The floats as numbers of mpmath, in nested lists."""
    return [mp.mpf(float(x)) if np.ndim(x) == 0 else _exact(x) for x in values]


def _lse(x: Vector) -> Any:
    return mp.log(mp.fsum(mp.exp(a) for a in x))


def _softmax(x: Vector) -> Vector:
    total = mp.fsum(mp.exp(a) for a in x)
    return [mp.exp(a) / total for a in x]


def _dot(a: Vector, b: Vector) -> Any:
    return mp.fsum(x * y for x, y in zip(a, b, strict=True))


# a layer: Lagrangian, activation and the quadratic form of the Hessian, in mpmath
Layer = tuple[Callable[[Vector], Any], Callable[[Vector], Vector], Callable[[Vector, Vector], Any]]
LINEAR: Layer = (lambda x: _dot(x, x) / 2, lambda x: x, lambda _x, u: _dot(u, u))
SOFTMAX: Layer = (
    _lse,
    _softmax,
    lambda x, u: _dot(_softmax(x), [a * a for a in u]) - _dot(_softmax(x), u) ** 2,
)
TANH: Layer = (
    lambda x: mp.fsum(mp.log(2 * mp.cosh(a)) for a in x),
    lambda x: [mp.tanh(a) for a in x],
    lambda x, u: mp.fsum((b / mp.cosh(a)) ** 2 for a, b in zip(x, u, strict=True)),
)
CUBE: Layer = (
    lambda x: mp.fsum(max(a, 0) ** 3 for a in x),
    lambda x: [3 * max(a, 0) ** 2 for a in x],
    lambda x, u: mp.fsum(6 * max(a, 0) * b * b for a, b in zip(x, u, strict=True)),
)


def _spread(x: Vector) -> tuple[Any, Any]:
    mean = mp.fsum(x) / len(x)
    return mean, mp.sqrt(mp.fsum((a - mean) ** 2 for a in x) / len(x) + mp.mpf(1) / 8)


def _norm_form(x: Vector, u: Vector) -> Any:
    (mean, spread), u_mean = _spread(x), mp.fsum(u) / len(u)
    along = _dot([(a - mean) / spread for a in x], u) ** 2 / len(x)
    return (mp.fsum((b - u_mean) ** 2 for b in u) - along) / spread


LAYER_NORM: Layer = (
    lambda x: len(x) * _spread(x)[1],
    lambda x: [(a - _spread(x)[0]) / _spread(x)[1] for a in x],
    _norm_form,
)


@pytest.mark.parametrize(
    ("visible", "hidden"),
    [(LINEAR, SOFTMAX), (TANH, SOFTMAX), (TANH, TANH), (LAYER_NORM, CUBE), (LAYER_NORM, SOFTMAX)],
    ids=["linear, softmax", "tanh, softmax", "tanh, tanh", "layer norm, cube", "layer norm, softmax"],
)
def test_b10_holds_to_28_digits_for_five_pairs_of_lagrangians(visible: Layer, hidden: Layer) -> None:
    xi, current = _exact(RNG.normal(size=(4, 3))), _exact(RNG.normal(size=3))
    v, h = _exact(RNG.normal(size=3)), _exact(RNG.normal(size=4))
    tau_v, tau_h = mp.mpf(7) / 8, mp.mpf(3) / 8

    def energy(v: Vector, h: Vector) -> Any:
        g, f = visible[1](v), hidden[1](h)
        own = _dot([a - b for a, b in zip(v, current, strict=True)], g) - visible[0](v) + _dot(h, f) - hidden[0](h)
        return own - mp.fsum(f_k * _dot(row, g) for f_k, row in zip(f, xi, strict=True))

    with mp.workdps(60):
        g, f = visible[1](v), hidden[1](h)
        v_rate = [(_dot(f, [row[i] for row in xi]) - v[i] + current[i]) / tau_v for i in range(3)]
        h_rate = [(_dot(row, g) - h_k) / tau_h for row, h_k in zip(xi, h, strict=True)]

        def along(t: Any) -> Any:
            return energy(
                [a + t * b for a, b in zip(v, v_rate, strict=True)], [a + t * b for a, b in zip(h, h_rate, strict=True)]
            )

        result = mp.diff(along, 0, h=mp.mpf("1e-18"))
        expected = -tau_v * visible[2](v, v_rate) - tau_h * hidden[2](h, h_rate)
        assert abs(result - expected) < mp.mpf("1e-28") * abs(expected)
        assert expected < 0


def test_b12_holds_to_40_digits_for_spins_and_spins() -> None:
    parts = [RNG.normal(size=shape) for shape in ((2, 3), 3, 3, 2)]
    xi, current, v, h = (_exact(part) for part in parts)
    with mp.workdps(50):
        g, f = TANH[1](v), TANH[1](h)
        energy = _dot([a - b for a, b in zip(v, current, strict=True)], g) - TANH[0](v) + _dot(h, f) - TANH[0](h)
        energy -= mp.fsum(f_k * _dot(row, g) for f_k, row in zip(f, xi, strict=True))
        elbo = mp.mpf(0)
        for s, t in product(product((-1, 1), repeat=3), product((-1, 1), repeat=2)):
            log_q = _dot(list(s), v) - TANH[0](v) + _dot(list(t), h) - TANH[0](h)
            log_p = _dot(list(s), current) + mp.fsum(a * _dot(row, list(s)) for a, row in zip(t, xi, strict=True))
            elbo += mp.exp(log_q) * (log_p - log_q)
        assert abs(energy + elbo) < mp.mpf("1e-40")
    network = Network(parts[0], LogCosh(), LogCosh(), parts[1])
    assert float(two_layer.energy(parts[2], parts[3], network)) == pytest.approx(float(energy), rel=1e-13)


def test_b12_powers_of_relu_are_no_log_partition_function() -> None:
    """Those are analytic with a positive variance; ReLU^3 is flat on a half-line, yet not constant."""
    kind = RectifiedPower(3)
    assert float(kind.curvature(np.array([-1.0]), np.array([1.0]))[0]) == 0
    assert float(kind.curvature(np.array([1.0]), np.array([1.0]))[0]) == 6


@pytest.mark.parametrize(("beta", "miss"), [(4, 0.051), (16, 1.9e-5), (64, 4.9e-20)])
def test_c6_one_step_misses_the_limit_by_the_stated_distance(beta: int, miss: float) -> None:
    """Two orthonormal memories, query (0.8, 0.1); the entry's .250 at beta = 1 belongs to another query (here .238)."""

    def update(v: Vector) -> Vector:
        return _softmax([beta * a for a in v])

    with mp.workdps(60):
        first = update([mp.mpf("0.8"), mp.mpf("0.1")])
        last = first
        for _ in range(300):
            last = update(last)
        distance = mp.sqrt(mp.fsum((a - b) ** 2 for a, b in zip(first, last, strict=True)))
    assert float(distance) == pytest.approx(miss, rel=0.03)
    step = continuous_hopfield.update(np.array([0.8, 0.1]), np.eye(2), float(beta))
    np.testing.assert_allclose(step, np.array(first, float), atol=1e-15)


def test_c6_one_memory_needs_one_step() -> None:
    memory = RNG.normal(size=(1, 3))
    np.testing.assert_allclose(continuous_hopfield.update(RNG.normal(size=3), memory, 1.0), memory[0], rtol=1e-15)


def test_c4_the_printed_modern_energy_has_curvature_of_at_least_two() -> None:
    memories = RNG.normal(size=(5, 3))

    def printed(q: jax.Array) -> jax.Array:
        return q @ q + LogSumExp(1.0)(memories @ q)

    curvature = jax.jit(jax.vmap(jax.hessian(printed)))(3 * RNG.normal(size=(20, 3)))
    assert np.linalg.eigvalsh(curvature).min() >= 2


@pytest.mark.parametrize(("claim_id", "case"), [("C7", "plain"), ("C5.gradients", "plain"), ("C9.stationary", "plain")])
def test_the_printed_forms_of_the_universal_energy_fail_by_a_tenth_and_more(claim_id: str, case: str) -> None:
    assert _printed_error(claim_id, case) > 0.1


def test_c9_one_euclidean_memory_is_recalled_at_half_its_size() -> None:
    memory = np.array([[2.0, -1.0, 4.0]])
    network = Network(memory, Quadratic(), LogSumExp(3.0))

    def energy(v: Any) -> Any:
        scores = -((v - memory) ** 2).sum(-1) / 2
        return two_layer.similarity_energy(v, scores, lambda x: -((x - memory) ** 2).sum(-1) / 2, network)

    slope = jax.jit(jax.grad(energy))
    np.testing.assert_allclose(slope(memory[0] / 2), np.zeros(3), atol=1e-14)
    np.testing.assert_allclose(slope(memory[0]), memory[0], rtol=1e-14)


def test_d3_the_energy_is_the_log_of_the_sum_over_alignments_to_40_digits() -> None:
    g = RNG.normal(size=(3, 2))
    keys, queries = RNG.normal(size=(2, 2, 2)), RNG.normal(size=(2, 2, 2))
    beta = 1.3
    with mp.workdps(50):
        score = [
            [
                [mp.mpf(beta) * _dot(_exact(keys[h] @ g[b]), _exact(queries[h] @ g[c])) for b in range(3)]
                for c in range(3)
            ]
            for h in range(2)
        ]
        choices = [[b for b in range(3) if b != c] for _ in range(2) for c in range(3)]
        total = mp.fsum(
            mp.exp(mp.fsum(score[i // 3][i % 3][b] for i, b in enumerate(alignment))) for alignment in product(*choices)
        )
        by_tokens = mp.fsum(_lse([score[h][c][b] for b in range(3) if b != c]) for h in range(2) for c in range(3))
        assert abs(mp.log(total) - by_tokens) < mp.mpf("1e-40")
    result = token_energies.attention_energy(g, keys, queries, beta)
    assert float(result) == pytest.approx(-float(mp.log(total)) / beta, rel=1e-13)


def test_b9_signs_have_no_curvature_so_the_rate_of_the_energy_says_nothing() -> None:
    network = dense_associative_memory(np.sign(RNG.normal(size=(4, 3))), 3)
    v, h = RNG.normal(size=3), np.full(4, -1.0)
    assert float(two_layer.dissipation(v, h, network)) == 0
