"""Nearest memory, most responsible memory and basin are three maps (CLAIMS A6)."""

from typing import Any

import numpy as np
import pytest
from jax.tree_util import Partial

from probam.dynamics.basins import Basins, argmax_responsibility, basin, nearest
from probam.energies import clam, spherical


def clam_basin(queries: Any, bank: dict[str, Any], **options: Any) -> Basins:
    return basin(Partial(clam.update, **bank), Partial(clam.energy, **bank), queries, **options)


def test_a_query_nearest_to_one_memory_is_recalled_as_another() -> None:
    memories, query = np.array([[0.0], [1.0], [1.0]]), np.array([[0.45], [0.1], [1.2]])
    result = clam_basin(query, {"memories": memories, "beta": 5.0})
    np.testing.assert_allclose(result.attractors[result.labels[0]], [0.9965], atol=5e-5)
    np.testing.assert_array_equal(nearest(query, memories), [0, 0, 1])
    np.testing.assert_array_equal(result.labels, [0, 1, 0])
    np.testing.assert_array_equal(nearest(result.recall.states, memories)[1], 0)


def test_the_border_of_two_basins_is_not_half_way() -> None:
    bank: dict[str, Any] = {"memories": np.array([[0.0], [1.0], [1.3]]), "beta": 6.0}
    queries = np.array([[0.483], [0.48324], [0.48326], [0.4999]])
    result = clam_basin(queries, bank)
    np.testing.assert_array_equal(result.labels, [0, 0, 1, 1])
    np.testing.assert_array_equal(nearest(queries, bank["memories"]), 0)
    assert result.attractors[0, 0] < 0.1
    assert result.attractors[1, 0] > 0.9


def test_the_three_maps_differ_pairwise_at_finite_beta_and_agree_in_the_limit() -> None:
    rng = np.random.default_rng(0)
    bank: dict[str, Any] = {"memories": 2 * rng.normal(size=(5, 2)), "weights": rng.dirichlet(np.ones(5))}
    queries = 2 * rng.normal(size=(400, 2))

    def labels(beta: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        result = clam_basin(queries, bank | {"beta": beta})
        share = Partial(clam.responsibilities, **(bank | {"beta": beta}))
        # each attractor under the name of the memory that is nearest to it
        recalled = np.asarray(nearest(result.attractors, bank["memories"]))[result.labels]
        return (
            np.asarray(nearest(queries, bank["memories"])),
            np.asarray(argmax_responsibility(queries, share)),
            recalled,
        )

    near, probable, recalled = labels(0.5)
    assert (near != probable).sum() > 10
    assert (probable != recalled).sum() > 10
    assert (near != recalled).sum() > 10
    near, probable, recalled = labels(1e5)
    np.testing.assert_array_equal(near, probable)
    np.testing.assert_array_equal(near, recalled)


def test_queries_that_did_not_arrive_have_no_basin() -> None:
    bank: dict[str, Any] = {"memories": np.array([[0.0, 0.0], [4.0, 0.0]]), "beta": 2.0}
    result = clam_basin(np.array([[[0.0, 0.0], [1.7, 3.0]]]), bank, max_steps=2, step=0.5)
    assert result.labels.shape == (1, 2)
    np.testing.assert_array_equal(result.labels[0, 1], -1)
    np.testing.assert_array_equal(result.recall.converged, result.labels >= 0)


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_basins_at_a_large_offset_are_those_at_zero(offset: float) -> None:
    rng = np.random.default_rng(1)
    memories, queries = rng.normal(size=(7, 3)), 1.5 * rng.normal(size=(200, 3))
    result = clam_basin(queries + offset, {"memories": memories + offset, "beta": 3.0}, block_size=64)
    assert result.recall.converged.all()
    # every fixed point of well-separated memories is a memory's own well
    names = np.asarray(nearest(result.attractors, memories + offset))
    assert len(set(names)) == len(names) > 2
    here = clam_basin(queries, {"memories": memories, "beta": 3.0})
    np.testing.assert_array_equal(result.labels, here.labels)


def test_basins_on_the_sphere_stay_on_it() -> None:
    rng = np.random.default_rng(2)
    bank: dict[str, Any] = {
        "directions": np.asarray(spherical.retract(rng.normal(size=(4, 3)))),
        "concentrations": np.full(4, 30.0),
    }
    queries = spherical.retract(rng.normal(size=(100, 3)))
    result = basin(
        Partial(spherical.update, **bank),
        Partial(spherical.energy, **bank),
        queries,
        step=1.5,
        retract=Partial(spherical.retract),
    )
    assert result.recall.converged.all()
    np.testing.assert_allclose(np.linalg.norm(result.attractors, axis=-1), 1, rtol=1e-12)
    assert len(result.attractors) <= 4
