"""Recall: fixed points, descent, stopping, reports."""

from functools import partial
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from scipy.cluster.hierarchy import fcluster, linkage

from probam.dynamics.recall import Recall, attractors, descend, recall
from probam.energies import clam, continuous_hopfield, creation, quadratic, spherical
from probam.errors import InputError, NumericalError

RNG = np.random.default_rng(0)
MEMORIES, WEIGHTS, QUERIES = RNG.normal(size=(6, 3)), RNG.dirichlet(np.ones(6)), 1.5 * RNG.normal(size=(4, 5, 3))
STIFFNESS = RNG.gamma(3.0, size=(6, 3))
DIRECTIONS, POINTS = spherical.retract(MEMORIES), spherical.retract(QUERIES)
KAPPA = 4 * RNG.gamma(2.0, size=6)
COUNTS = np.array([1.0, 4.0, 2.0, 7.0, 1.0, 3.0])

ENERGIES: dict[str, tuple[Any, dict[str, Any]]] = {
    "clam": (clam, {"memories": MEMORIES, "beta": 1.2, "weights": WEIGHTS}),
    "quadratic": (quadratic, {"memories": MEMORIES, "stiffness": STIFFNESS, "weights": WEIGHTS}),
    "hopfield": (continuous_hopfield, {"memories": MEMORIES, "beta": 2.0}),
    "spherical": (spherical, {"directions": DIRECTIONS, "concentrations": KAPPA, "weights": WEIGHTS}),
    "creation": (
        creation,
        {"memories": MEMORIES, "counts": COUNTS, "beta": 1.2, "rho": 0.3, "alpha": 0.9, "discount": 0.2},
    ),
}


evaluate = jax.jit(lambda function, states: function(states))


def functions(name: str, **changes: Any) -> tuple[Partial, Partial]:
    module, arguments = ENERGIES[name]
    energy = module.exact if name == "creation" else module.energy
    return Partial(module.update, **(arguments | changes)), Partial(energy, **(arguments | changes))


def run(name: str, queries: Any = None, **options: Any) -> Recall:
    on_sphere = {"retract": Partial(spherical.retract)} if name == "spherical" else {}
    queries = (POINTS if name == "spherical" else QUERIES) if queries is None else queries
    return recall(*functions(name), queries, **(on_sphere | options))


@pytest.mark.parametrize("step", [0.4, 1.0, 1.7])
@pytest.mark.parametrize("name", ENERGIES)
def test_recall_goes_downhill_to_a_fixed_point_with_steps_of_any_size(name: str, step: float) -> None:
    report = run(name, step=step, record=60)
    update, energy = functions(name)
    assert report.trajectory is not None
    assert report.energies is not None
    assert report.converged.all()
    assert report.states.shape == QUERIES.shape
    assert report.steps.shape == report.energy.shape == report.residual.shape == QUERIES.shape[:-1]
    assert report.trajectory.shape == (61, *QUERIES.shape)
    np.testing.assert_allclose(evaluate(update, report.states), report.states, atol=1e-13)
    assert (np.diff(report.energies, axis=0) <= 1e-13).all()
    np.testing.assert_allclose(report.energies[0], evaluate(energy, report.trajectory[0]), rtol=1e-13)
    np.testing.assert_allclose(report.energy, evaluate(energy, report.states), rtol=1e-13)
    assert (report.energy < report.energies[0]).all()
    if name == "spherical":
        np.testing.assert_allclose(np.linalg.norm(report.trajectory, axis=-1), 1, rtol=1e-14)


def test_the_recorded_trajectory_is_the_euler_scheme_step_by_step_and_then_stands_still() -> None:
    report = run("clam", step=0.6, record=400)
    assert report.trajectory is not None
    update = functions("clam")[0]
    state = QUERIES
    steps = np.asarray(report.steps)
    for t in range(401):
        np.testing.assert_allclose(report.trajectory[t], state, atol=1e-14)
        state = np.where((t < steps)[..., None], state + 0.6 * (np.asarray(evaluate(update, state)) - state), state)
    assert steps.min() < steps.max() < 400
    np.testing.assert_array_equal(report.trajectory[-1], report.states)
    short = run("clam", step=0.6, record=3)
    assert short.trajectory is not None
    np.testing.assert_array_equal(short.trajectory, report.trajectory[:4])
    np.testing.assert_array_equal(short.states, report.states)


def test_the_first_unit_step_is_not_the_fixed_point() -> None:
    """CLAIMS A7: the paper takes m(x) for one."""
    bank: dict[str, Any] = {"memories": np.array([[0.0], [1.0], [2.5]]), "beta": 1.5}
    report = recall(partial(clam.update, **bank), partial(clam.energy, **bank), np.array([0.8]), record=2)
    assert report.trajectory is not None
    np.testing.assert_allclose(report.trajectory[1:, 0], [0.728471, 0.677168], atol=5e-7)
    np.testing.assert_allclose(report.states, [0.515715038568], atol=1e-11)
    np.testing.assert_allclose(
        clam.responsibilities(np.array([0.8]), **bank), np.array([0.286, 0.704, 0.0098]), atol=5e-4
    )
    np.testing.assert_allclose(
        clam.responsibilities(report.states, **bank), np.array([0.487, 0.511, 0.0020]), atol=5e-4
    )


@pytest.mark.parametrize(("beta_r_squared", "number"), [(0.90, 1), (0.95, 4), (1.05, 3)])
def test_three_memories_in_the_plane_have_one_four_or_three_attractors(beta_r_squared: float, number: int) -> None:
    angles = 2 * np.pi * np.arange(3) / 3 + 0.2
    triangle = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    queries = np.random.default_rng(1).normal(size=(300, 2))
    bank: dict[str, Any] = {"memories": triangle, "beta": beta_r_squared}
    report = recall(Partial(clam.update, **bank), Partial(clam.energy, **bank), queries, max_steps=20_000)
    assert report.converged.all()
    labels, places = attractors(report.states, 1e-6)
    assert len(places) == number
    assert set(np.unique(labels)) == set(range(number))
    centre = np.linalg.norm(places, axis=-1) < 1e-9
    assert centre.sum() == (number != 3)
    curvature = np.linalg.eigvalsh(jax.jit(jax.vmap(jax.hessian(partial(clam.energy, **bank))))(places))
    assert (curvature > 0).all()


def test_below_the_convexity_threshold_all_queries_meet() -> None:
    beta = float(clam.convexity_threshold(MEMORIES))
    bank: dict[str, Any] = {"memories": MEMORIES, "beta": beta, "weights": WEIGHTS}
    report = recall(Partial(clam.update, **bank), Partial(clam.energy, **bank), 10 * QUERIES)
    assert report.converged.all()
    np.testing.assert_allclose(report.states, np.broadcast_to(report.states[0, 0], QUERIES.shape), atol=1e-12)


def test_a_symmetric_start_rests_on_the_saddle_and_a_query_at_rest_takes_no_step() -> None:
    bank: dict[str, Any] = {"memories": np.array([[1.0, 0.0], [-1.0, 0.0]]), "beta": 5.0}
    saddle = recall(Partial(clam.update, **bank), Partial(clam.energy, **bank), np.array([[0.0, 0.7], [0.0, 0.0]]))
    assert saddle.converged.all()
    np.testing.assert_allclose(saddle.states, 0, atol=1e-15)
    np.testing.assert_array_equal(saddle.steps, [1, 0])
    assert (saddle.residual == 0).all()


def test_a_query_at_1e8_is_recalled_to_full_precision() -> None:
    far = np.array([[1e8, 2e7, -3e7]])
    report = run("clam", far)
    assert report.converged.all()
    _, places = attractors(np.concatenate([run("clam").states.reshape(-1, 3), report.states]), 1e-9)
    update = functions("clam")[0]
    np.testing.assert_allclose(evaluate(update, report.states), report.states, atol=1e-14)
    assert np.linalg.norm(places - np.asarray(report.states), axis=-1).min() < 1e-12


def test_an_offset_of_1e6_changes_nothing_but_rounding() -> None:
    there = recall(*functions("clam", memories=MEMORIES + 1e6), QUERIES + 1e6)
    here = run("clam")
    assert there.converged.all()
    np.testing.assert_allclose(there.states - 1e6, here.states, atol=1e-7)
    np.testing.assert_allclose(there.energy, here.energy, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("beta", [1e-6, 0.7, 1e6])
def test_the_dtype_is_that_of_the_data_and_recall_converges_at_every_beta(dtype: Any, beta: float) -> None:
    memories = np.concatenate([MEMORIES, MEMORIES[:2]]).astype(dtype)
    report = recall(
        Partial(clam.update, memories=memories, beta=beta),
        Partial(clam.energy, memories=memories, beta=beta),
        QUERIES.astype(dtype),
        record=2,
    )
    assert report.converged.all()
    assert report.states.dtype == report.energy.dtype == report.residual.dtype == dtype
    assert report.energies is not None
    assert report.energies.dtype == dtype
    assert np.isfinite(report.energy).all()


def test_the_number_of_steps_is_bounded_and_an_unfinished_query_says_so() -> None:
    report = run("clam", step=0.01, max_steps=7)
    np.testing.assert_array_equal(report.steps, 7)
    assert not report.converged.any()
    assert (report.residual > 1e-3).all()
    none = run("clam", max_steps=0)
    np.testing.assert_array_equal(none.states, QUERIES)
    endless = recall(lambda v: -v, lambda v: jnp.sum(v**2, axis=-1), QUERIES, max_steps=50)
    np.testing.assert_array_equal(endless.steps, 50)
    assert not endless.converged.any()


def test_the_residual_is_relative_and_at_most_the_tolerance_where_converged() -> None:
    report = run("clam", tolerance=1e-5)
    assert report.converged.all()
    assert (report.residual <= 1e-5).all()
    move = np.linalg.norm(evaluate(functions("clam")[0], report.states) - report.states, axis=-1)
    first = np.linalg.norm(evaluate(functions("clam")[0], QUERIES), axis=-1)
    size = np.maximum(np.linalg.norm(report.states, axis=-1), first)
    np.testing.assert_allclose(report.residual, move / size, rtol=1e-3)
    assert (report.steps < run("clam").steps).all()


@pytest.mark.parametrize("block_size", [1, 7, 20, 64])
def test_blocks_of_queries_give_the_same_report(block_size: int) -> None:
    whole, blocks = run("clam", record=5), run("clam", record=5, block_size=block_size)
    np.testing.assert_allclose(whole.states, blocks.states, atol=1e-14)
    for part, expected in ((blocks.trajectory, whole.trajectory), (blocks.energies, whole.energies)):
        assert part is not None
        assert expected is not None
        np.testing.assert_allclose(part, expected, rtol=1e-13, atol=1e-14)
    assert abs(whole.steps - blocks.steps).max() <= 1
    assert blocks.converged.all()


def test_blocks_keep_only_one_block_of_responsibilities_in_memory() -> None:
    memories, queries = np.ones((300, 4)), np.ones((3000, 4))

    def peak(block_size: int | None) -> int:
        def go(v: jax.Array, m: jax.Array) -> jax.Array:
            bank: dict[str, Any] = {"memories": m, "beta": 1.0}
            return recall(Partial(clam.update, **bank), Partial(clam.energy, **bank), v, block_size=block_size).states

        memory = jax.jit(go).lower(queries, memories).compile().memory_analysis()
        assert memory is not None
        return int(memory.temp_size_in_bytes)

    assert peak(100) < 0.15 * peak(None)


def test_one_query_no_query_and_traced_queries() -> None:
    one = run("clam", QUERIES[1, 2])
    assert one.steps.shape == ()
    np.testing.assert_allclose(one.states, run("clam").states[1, 2], atol=1e-14)
    assert run("clam", np.zeros((0, 3)), record=2).states.shape == (0, 3)
    traced = jax.jit(lambda v: recall(*functions("clam"), v))(QUERIES)
    np.testing.assert_allclose(traced.states, run("clam").states, atol=1e-14)
    mapped = jax.jit(jax.vmap(lambda v: recall(*functions("clam"), v, record=2)))(QUERIES[0])
    np.testing.assert_allclose(mapped.states, run("clam").states[0], atol=1e-14)
    assert mapped.trajectory is not None
    assert mapped.trajectory.shape == (5, 3, 3)


def test_partials_keep_the_compiled_program_for_other_memories_and_plain_callables_agree() -> None:
    traces = []

    def update(queries: jax.Array, memories: Any) -> jax.Array:
        traces.append(queries.shape)
        return clam.update(queries, memories, 1.2)

    def energy(queries: jax.Array, memories: Any) -> jax.Array:
        return clam.energy(queries, memories, 1.2)

    first = recall(Partial(update, memories=MEMORIES), Partial(energy, memories=MEMORIES), QUERIES)
    before = len(traces)
    second = recall(Partial(update, memories=2 * MEMORIES), Partial(energy, memories=2 * MEMORIES), QUERIES)
    assert len(traces) - before <= 1  # the look at the shape
    assert abs(second.states - first.states).max() > 0.1
    plain = recall(lambda v: update(v, 2 * MEMORIES), lambda v: energy(v, 2 * MEMORIES), QUERIES)
    np.testing.assert_allclose(plain.states, second.states, atol=1e-14)


def test_recall_lowers_for_cuda() -> None:
    def go(queries: jax.Array) -> Any:
        return recall(*functions("clam"), queries, record=3, block_size=7), descend(functions("clam")[1], queries)

    assert jax.export.export(jax.jit(go), platforms=("cuda",))(QUERIES).platforms == ("cuda",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step": 0.0}, r"step: expected a number in \(0, 2\)"),
        ({"step": 2.0}, r"step: expected a number in \(0, 2\).*got 2"),
        ({"step": float("nan")}, "step: expected a number; got nan"),
        ({"max_steps": -1}, "max_steps, record: expected whole numbers"),
        ({"tolerance": -1e-3}, "tolerance: expected a finite relative residual"),
        ({"block_size": 0}, "block_size: expected at least 1"),
        ({"queries": np.array([[0.0, np.nan, 1.0], [1.0, 2.0, 3.0]])}, "queries: 1 of 2 are not finite"),
        ({"queries": np.float64(3.0)}, r"queries: expected shape \(..., D\)"),
        ({"queries": np.zeros((2, 4))}, r"query: expected shape \(..., 3\).*got \(2, 4\)"),
    ],
)
def test_bad_arguments_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        run("clam", **options)


def test_callables_of_the_wrong_shape_and_states_that_blow_up_are_named() -> None:
    with pytest.raises(InputError, match=r"energy: expected a function that takes rows \(20, 3\) to \(20,\)"):
        recall(lambda v: v, lambda v: v, QUERIES)
    with pytest.raises(InputError, match="update: expected a function"):
        recall(lambda v: v[:, :2], lambda v: v[:, 0], QUERIES)
    with pytest.raises(InputError, match="energy: expected a function of one point"):
        descend(lambda v: v, QUERIES)
    with pytest.raises(NumericalError, match="recall: 20 of 20 queries left the finite numbers"):
        recall(lambda v: 10 * v**3, lambda v: v[:, 0], 10 * jnp.ones((20, 3)))
    with pytest.raises(InputError, match="step_size: expected a finite number above 0"):
        descend(lambda v: v @ v, QUERIES, step_size=-1.0)


@pytest.mark.parametrize("name", ["clam", "quadratic", "hopfield", "creation"])
def test_descent_by_gradients_stops_where_the_gradient_vanishes_and_never_climbs(name: str) -> None:
    energy = functions(name)[1]
    report = descend(energy, QUERIES, record=50)
    assert report.converged.all()
    assert report.energies is not None
    assert report.trajectory is not None
    rows = report.states.reshape(-1, 3)
    np.testing.assert_allclose(jax.jit(jax.vmap(jax.grad(energy)))(rows), 0, atol=1e-12)
    assert (np.diff(report.energies, axis=0) <= 1e-13).all()
    np.testing.assert_allclose(report.energies[3], evaluate(energy, report.trajectory[3]), rtol=1e-12)
    assert np.linalg.eigvalsh(jax.jit(jax.vmap(jax.hessian(energy)))(rows)).min() > -1e-9


def test_descent_finds_the_minimum_of_an_ill_conditioned_bowl() -> None:
    scales = jnp.array([1.0, 1e2, 1e4])
    target = jnp.array([3.0, -2.0, 0.5])
    report = descend(lambda v: jnp.sum(scales * (v - target) ** 2), QUERIES, max_steps=5000)
    assert report.converged.all()
    np.testing.assert_allclose(report.states, np.broadcast_to(target, QUERIES.shape), atol=1e-10)


def test_descent_with_a_fixed_first_step_takes_it_and_reaches_a_non_gaussian_well() -> None:
    """Student-t wells have no closed-form update here."""

    def energy(v: jax.Array) -> jax.Array:
        return -jax.nn.logsumexp(-2.5 * jnp.log1p(jnp.sum((v - MEMORIES) ** 2, axis=-1) / 0.05))

    report = descend(energy, QUERIES, step_size=0.01, max_steps=5000, record=1, tolerance=1e-9)
    assert report.converged.all()
    assert report.trajectory is not None
    slopes = jax.jit(jax.vmap(jax.grad(energy)))
    np.testing.assert_allclose(report.trajectory[1, 0], QUERIES[0] - 0.01 * np.asarray(slopes(QUERIES[0])), rtol=1e-12)
    np.testing.assert_allclose(slopes(report.states.reshape(-1, 3)), 0, atol=1e-5)
    nearest = np.linalg.norm(report.states[..., None, :] - MEMORIES, axis=-1).min(-1)
    assert nearest.max() < 0.1


def test_descent_on_a_slope_without_end_stops_and_says_so() -> None:
    report = descend(lambda v: v.sum(), QUERIES, max_steps=5)
    assert not report.converged.any()
    np.testing.assert_array_equal(report.steps, 5)


def test_attractors_are_the_single_linkage_groups_in_order_of_appearance() -> None:
    rng = np.random.default_rng(3)
    states = np.concatenate([rng.normal(size=(150, 2)), rng.normal(size=(1, 2)) + 9])
    for tolerance in (0.0, 0.1, 0.25, 0.6):
        labels, places = attractors(states, tolerance)
        expected = fcluster(linkage(states, "single"), tolerance, "distance")
        _, first, inverse = np.unique(expected, return_index=True, return_inverse=True)
        np.testing.assert_array_equal(labels, np.argsort(np.argsort(first))[inverse])
        np.testing.assert_allclose(places, [states[labels == a].mean(0) for a in range(len(places))], rtol=1e-12)


def test_attractors_link_chains_keep_the_batch_shape_and_name_bad_states() -> None:
    chain = np.stack([np.arange(12) * 0.9, np.zeros(12)], axis=-1).reshape(3, 4, 2)
    labels, places = attractors(chain, 1.0)
    np.testing.assert_array_equal(labels, np.zeros((3, 4)))
    np.testing.assert_allclose(places, [[0.9 * 5.5, 0]])
    labels, places = attractors(np.zeros((0, 2)), 1.0)
    assert labels.shape == (0,)
    assert places.shape == (0, 2)
    with pytest.raises(InputError, match="states: expected finite values"):
        attractors(np.array([[np.nan, 1.0]]), 1.0)
    with pytest.raises(InputError, match="tolerance: expected a finite distance"):
        attractors(chain, -1.0)
