"""Image retrieval: damages do what they say, and fractions are those of a loop over images."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from probam.energies.separations import Identity, Max, Softmax
from probam.energies.similarities import SIMILARITIES
from probam.errors import InputError
from probam.experiments.image_retrieval import (
    DAMAGES,
    Rule,
    damaged,
    draw_sets,
    images,
    mean_image_retrieved,
    retrieved,
    run_retrieval,
)
from probam.experiments.universal_findings import lead

KEY = jax.random.key(4)


@pytest.fixture(scope="module")
def sets() -> jax.Array:
    pool = np.random.default_rng(1).uniform(0.2, 1, size=(40, 6, 8, 3)).astype(np.float32)
    return draw_sets(KEY, pool, 3, 12)


def test_sets_hold_different_images_and_differ(sets: jax.Array) -> None:
    rows = np.asarray(sets).reshape(3, 12, -1)
    assert all(len(np.unique(one, axis=0)) == 12 for one in rows)
    assert not np.array_equal(rows[0], rows[1])
    with pytest.raises(InputError, match="num_memories: expected at most 5, the number of images; got 12"):
        draw_sets(KEY, np.zeros((5, 2, 2, 1)), 3, 12)


def test_masks_are_from_the_top_random_by_pixel_and_around_the_edge(sets: jax.Array) -> None:
    masked, random, inner = (
        np.asarray(damaged(KEY, sets, jnp.asarray(0.5), damage)) for damage in ("mask", "random mask", "inpainting")
    )
    original = np.asarray(sets)
    assert (masked[:, :, :3] == 0).all()
    np.testing.assert_array_equal(masked[:, :, 3:], original[:, :, 3:])
    gone = random == 0
    np.testing.assert_array_equal(random[~gone], original[~gone])
    assert (gone.any(-1) == gone.all(-1)).all()  # all channels of a pixel together
    num_pixels = gone.size / 3
    assert abs(gone.mean() - 0.5) < 5 * 0.5 / np.sqrt(num_pixels)  # fails once in 1.7 million keys
    edge = np.ones((6, 8), bool)
    edge[1:5, 1:7] = False  # floor(6 * 0.5 / 2) = 1 on each side
    assert (inner[:, :, edge] == 0).all()
    np.testing.assert_array_equal(inner[:, :, ~edge], original[:, :, ~edge])


def test_the_level_of_noise_is_its_variance_before_clipping(sets: jax.Array) -> None:
    middle = jnp.full_like(sets, 0.5)
    noisy = np.asarray(damaged(KEY, middle, jnp.asarray(0.01), "noise"))
    assert noisy.min() >= 0
    assert noisy.max() <= 1
    assert abs(noisy.var() / 0.01 - 1) < 5 * np.sqrt(2 / noisy.size)


def test_nothing_is_lost_without_damage(sets: jax.Array) -> None:
    for damage in DAMAGES:
        np.testing.assert_array_equal(damaged(KEY, sets, jnp.asarray(0.0), damage), sets)


def test_fractions_are_those_of_a_loop_over_images(sets: jax.Array) -> None:
    rules = (Rule("soft", Softmax(30.0), True), Rule("max", Max(), False))
    limits, ladder = (2.0, 8.0, 14.0), (4, 12)
    kind = SIMILARITIES["manhattan"]
    result = run_retrieval(
        KEY, sets, {"manhattan": kind}, rules, damage="mask", level=0.5, ladder=ladder, thresholds=limits
    )
    queries = np.asarray(damaged(KEY, sets, jnp.asarray(0.5), "mask"), float).reshape(3, 12, -1)
    memories = np.asarray(sets, float).reshape(3, 12, -1)
    expected = np.zeros((2, 2, 3, 3))
    for s in range(3):
        for i, size in enumerate(ladder):
            for k in range(size):
                distances = np.abs(queries[s, k] - memories[s, :size]).sum(-1)
                scores = (1 / distances) / (1 / distances).sum()
                soft = np.exp(30 * scores) / np.exp(30 * scores).sum()
                for r, share in enumerate((soft, distances == distances.min())):
                    error = ((share @ memories[s, :size] - memories[s, k]) ** 2).sum()
                    expected[r, i, :, s] += (error < np.array(limits)) / size
    assert 0 < expected.mean() < 1
    np.testing.assert_allclose(result.isel(similarity=0).values, expected, atol=1e-7)


def test_the_classical_network_counts_wrong_pixels() -> None:
    spins = np.sign(np.random.default_rng(3).normal(size=(2, 9, 20)))
    values = np.einsum("sqd,skd->sqk", spins, spins)
    limits = np.array([0.5, 3.5])
    result = retrieved(
        jnp.asarray(values),
        jnp.asarray(spins),
        Identity(),
        jnp.asarray(limits),
        is_distance=False,
        normalised=False,
        ladder=(9,),
        signs=True,
    )
    read = np.sign(np.einsum("sqk,skd->sqd", values, spins) + 1e-9)
    expected = ((read != spins).sum(-1)[..., None] < limits).mean(axis=1)
    assert 0 < expected.mean() < 1
    np.testing.assert_allclose(result[:, 0], expected, atol=1e-7)


def test_the_mean_image_is_what_chance_retrieves(sets: jax.Array) -> None:
    rows = np.asarray(sets, float).reshape(3, 12, -1)
    result = mean_image_retrieved(sets.reshape(3, 12, -1), jnp.asarray(8.0, jnp.float32), (1, 12))
    errors = ((rows - rows.mean(1, keepdims=True)) ** 2).sum(-1)
    np.testing.assert_allclose(result, np.stack([np.ones(3), (errors < 8).mean(-1)], axis=1), atol=1e-7)


def test_digits_stand_in_where_no_folder_is_given() -> None:
    (only,) = images(None, 100).values()
    assert only.shape == (1797, 8, 8, 1)
    assert only.min() == 0
    assert only.max() == 1


def _stored(folder: Path, name: str, pixels: np.ndarray) -> None:
    (folder / name).mkdir()
    np.savez(folder / name / "data.npz", X=pixels)


def test_stored_images_of_any_name_are_scaled_to_one(tmp_path: Path) -> None:
    _stored(tmp_path, "my_holiday", np.arange(0, 256, 51, dtype=np.uint8).reshape(1, 2, 3))
    _stored(tmp_path, "fractions", np.full((2, 4, 4, 3), 0.25))
    _stored(tmp_path, "a_table", np.ones((7, 3)))
    result = images(tmp_path, 1)
    assert list(result) == ["fractions", "my_holiday"]
    np.testing.assert_allclose(result["my_holiday"][0, ..., 0], [[0, 0.2, 0.4], [0.6, 0.8, 1]], rtol=1e-6)
    np.testing.assert_array_equal(result["fractions"], np.full((2, 4, 4, 3), 0.25, np.float32))


def test_a_folder_without_images_is_refused_and_so_are_pixels_out_of_range(tmp_path: Path) -> None:
    _stored(tmp_path, "few", np.zeros((3, 2, 2)))
    with pytest.raises(InputError, match=r"no set of 10 images or more.*too few: few \(3\)"):
        images(tmp_path, 10)
    _stored(tmp_path, "bright", np.full((12, 2, 2), 1.5))
    with pytest.raises(InputError, match="expected pixels from 0 to 1"):
        images(tmp_path, 10)


def test_leads_are_paired_by_set_and_one_choice_serves_all_sets() -> None:
    fractions = xr.DataArray(
        [[0.9, 0.5, 0.7], [0.6, 0.6, 0.6], [0.2, 0.9, 0.1]],
        dims=("similarity", "set"),
        coords={"similarity": ["one", "two", "three"]},
    )
    np.testing.assert_allclose(lead(fractions, "similarity", ["one"], ["one", "two", "three"]), [0.3, -0.1, 0.1])
