"""Recall under the posterior: known landscapes as draws, and what a fit stores of them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq

import probam
from probam.claims.mixtures.attractors import CORNER_WELLS
from probam.errors import InputError
from probam.fits.landscape_posterior import Completion, Filled, completion, fill, landscape_posterior, plan
from probam.models.gaussian import Gaussian
from probam.models.mixture import Mixture, mixture
from probam.models.uniform import UniformMemory
from probam.models.weights import Uniform

RNG = np.random.default_rng(11)
ANGLES = 2 * np.pi * np.arange(3) / 3
CORNERS = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)
RATIOS = np.array([0.90, 0.95, 1.05, 3.0])  # beta R^2


def _arrays(sites: dict[str, Any]) -> dict[str, jax.Array]:
    return {name: jnp.asarray(values) for name, values in sites.items()}


def isotropic(num_components: int, num_features: int = 2) -> Mixture:
    x = RNG.normal(size=(30, num_features))
    return mixture(x, family=Gaussian("isotropic"), weights=Uniform(), num_components=num_components)


def asked(model: Mixture, sites: dict[str, Any], permutation: np.ndarray, **changed: Any) -> Any:
    disc = 0.5 * np.random.default_rng(2).normal(size=(40, 2))
    options: dict[str, Any] = {"num_data": 40, "extent": 1.0, "memories": np.arange(3), "max_steps": 6000} | changed
    return landscape_posterior(model, sites, permutation, disc, disc[:5], **options)


@pytest.fixture(scope="module")
def triangle() -> tuple[Mixture, dict[str, Any]]:
    """Draws below, between and above the two thresholds of the equilateral triangle (CLAIMS A9)."""
    model = isotropic(3)
    return model, _arrays({"loc": np.broadcast_to(CORNERS, (4, 3, 2)), "beta": RATIOS})


def test_the_triangle_has_a_spurious_attractor_between_its_thresholds(triangle: Any) -> None:
    model, sites = triangle
    assert RATIOS[0] < CORNER_WELLS < RATIOS[1] < 1 < RATIOS[2]
    found = asked(model, sites, np.tile(np.arange(3), (4, 1)))
    np.testing.assert_array_equal(found.num_attractors, [1, 4, 3, 3])
    np.testing.assert_array_equal(found.num_spurious, [0, 1, 0, 0])
    assert (found.basin >= 0).all()
    assert len(np.unique(found.basin[0])) == 1
    np.testing.assert_array_equal(found.merged[0], True)
    np.testing.assert_array_equal(found.merged[1:], np.eye(3, dtype=bool)[None].repeat(3, axis=0))
    np.testing.assert_array_equal(found.barrier[0], 0)
    climbs = found.barrier[1:, ~np.eye(3, dtype=bool)]  # by symmetry one height a draw
    np.testing.assert_allclose(climbs, climbs[:, :1].repeat(6, axis=1), atol=1e-5)
    assert (np.diff(climbs[:, 0]) > 0).all()


def test_numbering_the_memories_otherwise_changes_nothing(triangle: Any) -> None:
    model, sites = triangle
    order = np.array([[0, 1, 2], [2, 0, 1], [1, 0, 2], [1, 2, 0]])
    plain = asked(model, sites, np.tile(np.arange(3), (4, 1)))
    # memory k of the landscape is memory order[s, k] of a draw that stores it there
    stored: dict[str, Any] = jax.tree.map(
        jnp.asarray, {"loc": np.stack([CORNERS[np.argsort(row)] for row in order]), "beta": RATIOS}
    )
    renamed = asked(model, stored, order)
    np.testing.assert_array_equal(plain.num_attractors, renamed.num_attractors)
    np.testing.assert_array_equal(plain.num_spurious, renamed.num_spurious)
    np.testing.assert_array_equal(plain.recalled_memory[1:], renamed.recalled_memory[1:])
    np.testing.assert_allclose(plain.recalled, renamed.recalled, atol=1e-5)
    np.testing.assert_allclose(plain.attractor, renamed.attractor, atol=1e-5)
    np.testing.assert_allclose(plain.barrier, renamed.barrier, atol=1e-5)
    for one, other in zip(plain.basin, renamed.basin, strict=True):
        np.testing.assert_array_equal(one[:, None] == one, other[:, None] == other)


def test_the_barrier_between_two_memories_is_in_nats_and_their_basins_meet_half_way() -> None:
    half, betas = 1.0, np.array([0.8, 2.5, 0.3])
    model = isotropic(2)
    sites: dict[str, Any] = jax.tree.map(
        jnp.asarray, {"loc": np.broadcast_to([[half, 0.0], [-half, 0.0]], (3, 2, 2)), "beta": betas}
    )
    rows = np.stack([np.linspace(-1.9, 2.0, 40), np.linspace(-0.3, 0.4, 40)], axis=1)
    found = landscape_posterior(
        model,
        sites,
        np.tile([1, 0], (3, 1)),
        rows,
        rows[:4],
        num_data=40,
        extent=1.0,
        memories=np.arange(2),
        max_steps=3000,
    )
    np.testing.assert_array_equal(found.num_attractors, [2, 2, 1])  # one well below beta a^2 = 1/2
    for s, beta in enumerate(betas[:2]):
        b = float(beta)
        well = brentq(lambda v, b=b: v - half * np.tanh(2 * b * half * v), 1e-3, half)

        def nats(v: float, b: float = b) -> float:
            return float(b * (v**2 + half**2) - np.log(np.cosh(2 * b * half * v)))

        np.testing.assert_allclose(found.barrier[s, 0, 1], nats(0) - nats(well), atol=1e-5)
        np.testing.assert_allclose(found.attractor[s], [[-well, 0], [well, 0]], atol=1e-6)
        clear = np.abs(rows[:, 0]) > 0.01  # one row is on the ridge: it falls to either side, and stays no attractor
        label, right = found.basin[s][clear], rows[clear, 0] > 0
        np.testing.assert_array_equal(label[:, None] == label, right[:, None] == right)
    assert np.sum(~clear) == 1
    np.testing.assert_array_equal(found.recalled_memory[:2], 0)  # the memory at -a, as relabelled


def test_one_memory_is_completed_alike_by_descent_and_by_the_conditional() -> None:
    model = mixture(RNG.normal(size=(30, 3)), family=Gaussian("full"), weights=Uniform(), num_components=1)
    root = np.tril(RNG.normal(size=(2, 1, 3, 3))) + 2 * np.eye(3)
    sites = _arrays({"loc": RNG.normal(size=(2, 1, 3)), "precision_cholesky": root})
    x = RNG.normal(size=(6, 3))
    x[np.arange(6), [0, 1, 2, 0, 1, 2]] = x[3:, 1] = np.nan
    found = completion(model, sites, x)
    assert found.converged.all()
    np.testing.assert_allclose(found.descent, found.filled.mean, atol=1e-6)
    alone = fill(model, sites, x)
    for name, values in alone._asdict().items():
        np.testing.assert_allclose(values, getattr(found.filled, name), rtol=1e-10)


def test_descent_and_conditional_agree_as_memories_sharpen_and_the_mean_errs_less_before() -> None:
    model = isotropic(4, 3)
    loc = 2 * RNG.normal(size=(1, 4, 3))
    rows = loc[0, [0, 1, 2, 3]] + 0.05 * RNG.normal(size=(4, 3))
    rows[:, 2] = np.nan
    sharp_sites = _arrays({"loc": loc, "beta": np.array([4000.0])})
    sharp = completion(model, sharp_sites, rows)
    np.testing.assert_allclose(sharp.filled.mean[0, :, 2], loc[0, :, 2], atol=1e-6)
    # what is seen hardly tells the first two memories apart, which differ in what is hidden
    apart = np.array([[2.0, 0.1, 0.0], [-2.0, 0.0, 0.2], [2.5, 2.0, 2.0], [-1.0, -2.0, -2.0]])
    blunt_sites = _arrays({"loc": apart[None], "beta": np.array([1.0])})
    law = model.mixture({name: value[0] for name, value in blunt_sites.items()})
    data = np.asarray(law.sample(jax.random.key(0), (4000,)))
    masked = data.copy()
    masked[:, 0] = np.nan
    found = completion(model, blunt_sites, masked)
    by_mean, by_descent = ((guess[0, :, 0] - data[:, 0]) ** 2 for guess in (found.filled.mean, found.descent))
    gain = by_descent - by_mean
    assert gain.mean() > 3 * gain.std() / np.sqrt(len(gain))
    np.testing.assert_allclose(by_mean.mean(), found.filled.variance[0, :, 0].mean(), rtol=0.1)


def test_draws_count_by_how_likely_they_make_what_is_observed() -> None:
    shapes = np.array([[0.0, -3.0], [np.log(3.0), -3.0]])
    mean = np.array([[[1.0, 0.0], [0.0, 0.0]], [[5.0, 0.0], [2.0, 0.0]]])
    found = Completion(Filled(shapes, mean, np.ones_like(mean)), mean, np.ones((2, 2), bool))
    pooled = found.pooled()
    np.testing.assert_allclose(pooled["conditional_mean"][:, 0], [4.0, 1.0])
    np.testing.assert_allclose(pooled["conditional_sd"][:, 0] ** 2, [1 + 3.0, 1 + 1.0])
    np.testing.assert_allclose(pooled["descent_sd"][:, 0] ** 2, [3.0, 1.0])


def test_the_plan_takes_fewer_draws_of_large_models_and_one_of_each_chain_at_least() -> None:
    small = _arrays({"loc": np.zeros((400, 5, 2)), "beta": np.zeros(400)})
    assert plan(small, (4, 100), 300, 5, 2).draws.tolist() == np.linspace(0, 99, 12).round().astype(int).tolist()
    assert plan(small, (4, 100), 300, 50, 2).num_memories == 12
    large = _arrays({"loc": np.zeros((400, 900, 784))})
    few = plan(large, (4, 100), 500, 900, 784)
    assert len(few.draws) == 1
    assert few.num_memories == 2


@pytest.fixture(scope="module")
def fit() -> probam.Fit:
    groups = np.array([[-2.0, 0.0], [2.0, 1.0]])[RNG.integers(0, 2, 90)]
    return probam.fit(groups + 0.5 * RNG.normal(size=(90, 2)), engine="em", components=3, seed=1)


def test_a_fit_stores_recall_under_its_posterior(fit: probam.Fit) -> None:
    recall = fit.group("recall")
    assert recall["num_attractors"].dims == recall["num_spurious"].dims == ("chain", "draw")
    assert recall["recalled"].dims == ("chain", "draw", "query", "feature")
    assert recall["recalled_memory"].dims == ("chain", "draw", "query")
    assert recall["barrier"].dims == ("memory", "memory_bis")
    same = recall["same_basin"]
    assert same.dims == ("row", "row_bis")
    np.testing.assert_array_equal(same["row"], fit.tree["partition"].to_dataset()["row"])
    np.testing.assert_array_equal(same, same.values.T)
    alone = fit.recall(fit.tree["observed_data"].to_dataset()["x"].values)["state"].values  # of the one draw
    near = np.linalg.norm(alone[:, None] - alone, axis=-1) < 1e-2
    np.testing.assert_array_equal(same.values == 1, near)
    np.testing.assert_array_equal(recall["recall_probability"].sum("memory"), 1)
    assert recall.attrs["mse_conditional_mean"] < 0.6 * recall.attrs["mse_column_mean"]
    rows = fit.tree["observed_data"].to_dataset()["x"].values[recall["query_row"]]
    np.testing.assert_allclose(recall["query"], rows, rtol=1e-6)


def test_complete_fills_what_is_missing_and_leaves_the_rest(fit: probam.Fit, tmp_path: Any) -> None:
    x = fit.tree["observed_data"].to_dataset()["x"].values[:7].copy()
    gone = np.zeros((7, 2), bool)
    gone[np.arange(6), [0, 1, 0, 1, 0, 1]] = True
    masked = np.where(gone, np.nan, x)
    filled = fit.complete(masked)
    np.testing.assert_array_equal(filled["missing"], gone)
    for name in ("descent", "conditional_mean"):
        assert np.isfinite(filled[name]).all()
        np.testing.assert_array_equal(filled[name].values[~gone], x[~gone])
    assert (filled["conditional_sd"].values[gone] > 0).all()
    np.testing.assert_array_equal(filled["conditional_sd"].values[~gone], 0)
    path = tmp_path / "gaps.csv"
    np.savetxt(path, masked, delimiter=",", header="x0,x1", comments="")
    again = fit.complete(path)
    np.testing.assert_allclose(again["conditional_mean"], filled["conditional_mean"], rtol=1e-12)
    by_mean = fit.complete(masked, descent=False)
    assert set(filled) - set(by_mean) == {"descent", "descent_sd", "converged"}
    np.testing.assert_allclose(by_mean["conditional_mean"], filled["conditional_mean"], rtol=1e-10)
    with pytest.raises(InputError, match="expected the 2 features that were learned"):
        fit.complete(x[:, :1])
    with pytest.raises(InputError, match="num_draws: expected a whole number of at least 1; got 0"):
        fit.complete(masked, num_draws=0)


def test_recall_that_has_no_dynamics_is_refused_in_words() -> None:
    flat = mixture(RNG.normal(size=(30, 2)), family=UniformMemory("box"), weights=Uniform(), num_components=2)
    sites = _arrays({"loc": np.zeros((1, 2, 2)), "half_width": np.ones((1, 2, 2))})
    with pytest.raises(InputError, match="recall: "):
        completion(flat, sites, np.array([[0.0, np.nan]]))
