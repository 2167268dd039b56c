"""Barriers are those of flooding, of one-dimensional search and of closed forms."""

from functools import partial
from typing import Any

import jax
import numpy as np
import pytest
from scipy import ndimage
from scipy.optimize import brentq, minimize_scalar

from probam.dynamics.barriers import barriers, lowest_passes, string
from probam.dynamics.recall import recall
from probam.energies import clam, quadratic, spherical
from probam.errors import InputError


@partial(jax.jit, static_argnames="by_gradient")
def clam_passes(bank: dict[str, Any], wells: jax.Array, *, by_gradient: bool = False) -> jax.Array:
    update = None if by_gradient else partial(clam.update, **bank)
    return lowest_passes(partial(clam.energy, **bank), wells, update=update)


@pytest.mark.parametrize("by_gradient", [False, True])
def test_two_equal_memories_have_their_pass_half_way(by_gradient: bool) -> None:
    half, beta, across = 1.3, 0.9, np.array([0.6, 0.0, -0.8])
    well = brentq(lambda s: s - half * np.tanh(2 * beta * half * s), 0.1, half)
    centre = np.array([3.0, -1.0, 2.0])
    bank: dict[str, Any] = {
        "memories": centre + half * np.stack([across, -across]),
        "beta": beta,
        "weights": np.ones(2),
    }
    wells = centre + well * np.stack([across, -across])
    passes = np.asarray(clam_passes(bank, wells, by_gradient=by_gradient))
    at_well = well**2 + half**2 - np.log(2 * np.cosh(2 * beta * half * well)) / beta
    at_pass = half**2 - np.log(2) / beta
    np.testing.assert_allclose(passes, [[at_well, at_pass], [at_pass, at_well]], atol=1e-9)
    np.testing.assert_allclose(barriers(passes)[0, 1], at_pass - at_well, atol=1e-9)


def test_between_two_memories_of_unequal_weight_the_pass_is_the_maximum_on_their_segment() -> None:
    memories, weights, beta = np.array([[0.0, 1.0, 0.4], [1.5, -0.5, 0.0]]), np.array([0.7, 0.3]), 1.4
    bank: dict[str, Any] = {"memories": memories, "beta": beta, "weights": weights}
    wells = np.asarray(recall(partial(clam.update, **bank), partial(clam.energy, **bank), memories).states)

    def height(share: float) -> float:
        point = memories[0] + share * (memories[1] - memories[0])
        terms = weights * np.exp(-beta * np.sum((memories - point) ** 2, axis=1))
        return float(-np.log(terms.sum()) / beta)

    top = -minimize_scalar(
        lambda share: -height(share), bounds=(0.2, 0.8), method="bounded", options={"xatol": 1e-9}
    ).fun
    passes = np.asarray(clam_passes(bank, wells))
    np.testing.assert_allclose(passes[0, 1], top, atol=2e-6)  # a parabola through points 1/184 of the way apart
    np.testing.assert_allclose(np.diag(passes), [clam.energy(well, **bank) for well in wells], rtol=1e-12)
    assert barriers(passes)[0, 1] > barriers(passes)[1, 0] > 0.05  # the heavier well is the deeper one


def flooded(heights: np.ndarray, one: tuple[int, ...], other: tuple[int, ...]) -> float:
    """The least level at which water joins two cells of a grid."""
    low, high = max(heights[one], heights[other]), heights.max()
    for _ in range(24):
        level = (low + high) / 2
        pools, _ = ndimage.label(heights <= level, structure=np.ones((3, 3)))
        low, high = (low, level) if pools[one] == pools[other] else (level, high)
    return float(high)


def test_in_the_plane_the_passes_are_those_of_flooding_a_grid() -> None:
    rng = np.random.default_rng(1)
    root = 0.9 * rng.normal(size=(5, 2, 2))
    bank: dict[str, Any] = {
        "memories": 2 * rng.normal(size=(5, 2)),
        "stiffness": root @ root.swapaxes(1, 2) + 0.8 * np.eye(2),
        "weights": rng.dirichlet(np.full(5, 3.0)),
    }
    energy: Any = partial(quadratic.energy, **bank)
    update = partial(quadratic.update, **bank)
    wells = np.asarray(recall(update, energy, bank["memories"], max_steps=3000).states)
    axis = np.linspace(-6, 6, 601)
    heights = np.asarray(energy(np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1)))
    cells = [tuple(np.abs(axis[None] - well[:, None]).argmin(axis=1)) for well in wells]
    passes = np.asarray(jax.jit(lambda ends: lowest_passes(energy, ends, update=update))(wells))
    straight = np.asarray(jax.jit(lambda ends: lowest_passes(energy, ends, num_steps=0))(wells))
    one, other = np.triu_indices(5, 1)
    distinct = [i for i in range(10) if cells[one[i]] != cells[other[i]]]
    one, other = one[distinct], other[distinct]
    exact = np.array([flooded(heights, cells[i], cells[j]) for i, j in zip(one, other, strict=True)])
    np.testing.assert_allclose(passes[one, other], exact, rtol=5e-4, atol=2e-3)  # the grid is 0.02 wide
    np.testing.assert_array_equal(passes, passes.T)
    off = ~np.eye(5, dtype=bool)
    assert (straight[off] >= passes[off] - 1e-12).all()
    assert (straight[one, other] - exact).max() > 0.015  # the straight way is not the lowest
    over = np.maximum(passes[:, None], passes[None])  # [i, j, k]: the way from i to j by k
    np.testing.assert_array_less(passes, over.min(axis=2) + 1e-12)


def test_memories_of_one_well_have_no_barrier() -> None:
    bank: dict[str, Any] = {
        "memories": np.array([[0.4, 0.0, 1.0], [-0.4, 0.1, 1.2]]),
        "beta": 0.8,
        "weights": np.array([0.3, 0.7]),
    }
    energy, update = partial(clam.energy, **bank), partial(clam.update, **bank)
    wells = np.asarray(recall(update, energy, bank["memories"], tolerance=1e-12).states)
    np.testing.assert_allclose(barriers(clam_passes(bank, wells)), 0, atol=1e-12)


def test_on_the_sphere_the_way_is_the_great_circle() -> None:
    directions = np.array([[0.0, 0.6, 0.8], [1.0, 0.0, 0.0]])
    bank: dict[str, Any] = {
        "directions": directions,
        "concentrations": np.array([9.0, 6.0]),
        "weights": np.array([0.4, 0.6]),
    }
    energy, update = partial(spherical.energy, **bank), partial(spherical.update, **bank)
    wells = np.asarray(recall(update, energy, directions, retract=spherical.retract).states)
    result = jax.jit(lambda a, b: string(energy, a, b, update=update, keep=spherical.retract))(wells[:1], wells[1:])
    angle = np.linspace(0, np.pi / 2, 20001)[:, None]
    circle = np.cos(angle) * directions[0] + np.sin(angle) * directions[1]
    logits = np.log(bank["weights"]) + bank["concentrations"] * (circle @ directions.T)
    np.testing.assert_allclose(result.top[0], np.max(-np.log(np.exp(logits).sum(axis=1))), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(result.paths, axis=-1), 1, rtol=1e-12)


def test_what_is_no_pair_of_states_is_refused() -> None:
    energy = partial(clam.energy, memories=np.eye(2), beta=1.0)
    with pytest.raises(InputError, match="start, end: expected two arrays of shape"):
        string(energy, np.zeros((2, 2)), np.zeros((3, 2)))
    with pytest.raises(InputError, match="start, end: expected finite"):
        string(energy, np.full((1, 2), np.nan), np.zeros((1, 2)))
    with pytest.raises(InputError, match="num_images"):
        string(energy, np.zeros((1, 2)), np.zeros((1, 2)), num_images=2)
