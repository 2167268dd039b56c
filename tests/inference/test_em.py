"""Closed-form EM: monotone, stationary for the very potential that NUTS sees, and equal to other programs' optima."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from numpyro.infer.util import potential_energy
from scipy.optimize import minimize_scalar

from probam.errors import InputError
from probam.family import Family, Moments
from probam.family.capabilities import AdditiveMStep, DataSpace
from probam.inference.common.coordinates import Coordinates, constrained
from probam.inference.common.information import expected_log_joint
from probam.inference.common.result import EngineResult
from probam.inference.em import engine as em
from probam.inference.em.steps import block_rows, expectation, kept_statistics
from probam.inference.gradient_em import engine as gradient_em
from probam.inference.gradient_em.warm import start_at_optima
from probam.models.gaussian import Gaussian
from probam.models.mixture import Mixture, mixture
from probam.models.von_mises_fisher import VonMisesFisherMemory
from probam.models.weights import weight_prior

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


def _data(family: Family) -> np.ndarray:
    rng = np.random.default_rng(5)
    centres = np.array([[0.0, 0, 3], [4, 1, 0], [-3, 2, -2]])
    x = np.concatenate(
        [rng.normal(c, s, (n, 3)) for c, s, n in zip(centres, (0.5, 1.0, 0.8), (30, 50, 40), strict=True)]
    )
    return x / np.linalg.norm(x, axis=1, keepdims=True) if isinstance(family, VonMisesFisherMemory) else x


FAMILIES = {
    "isotropic": Gaussian("isotropic"),
    "spherical": Gaussian("spherical"),
    "diagonal": Gaussian("diagonal"),
    "full": Gaussian("full"),
    "vmf": VonMisesFisherMemory(),
}


def _model(family: Family, weights: str = "dirichlet", num_components: int = 3) -> tuple[Mixture, jax.Array]:
    x = _data(family)
    return mixture(x, family=family, weights=weight_prior(weights), num_components=num_components), jnp.asarray(x)


def _best(result: EngineResult, coordinates: Coordinates) -> dict[str, jax.Array]:
    return {name: jnp.asarray(result.sites[name][0, 0]) for name in coordinates.transforms}


@pytest.mark.parametrize(
    ("family", "weights"),
    [
        ("isotropic", "uniform"),
        ("spherical", "dirichlet"),
        ("diagonal", "pyp"),
        ("full", "dp"),
        ("full", "dirichlet"),
        ("vmf", "pyp"),
    ],
)
def test_em_climbs_to_a_stationary_point_of_the_potential_of_nuts(family: str, weights: str) -> None:
    model, x = _model(FAMILIES[family], weights, 5)
    result = em.run(jax.random.key(0), model, x, restarts=3, tolerance=1e-13, max_iterations=3000)
    assert result.status == "converged"
    assert result.objective is not None
    rises = np.diff(result.objective, axis=1)
    assert np.nanmin(rises) > -1e-9 * len(x)
    coordinates = Coordinates(model)
    free = coordinates.unconstrain(_best(result, coordinates))

    def potential(free: dict[str, jax.Array]) -> jax.Array:
        return potential_energy(model, (x,), {}, free)

    value, gradient = jax.jit(jax.value_and_grad(potential))(free)
    np.testing.assert_allclose(-value, result.stats["lp"][0, 0], rtol=1e-10)
    for name, slope in gradient.items():
        assert float(jnp.max(jnp.abs(slope))) < 2e-4, name


def test_log_joint_is_minus_the_potential_of_numpyro() -> None:
    model, x = _model(FAMILIES["full"], "pyp", 4)
    coordinates = Coordinates(model)
    leaves, structure = jax.tree.flatten(coordinates.zeros)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    free = jax.tree.unflatten(
        structure, [jax.random.normal(k, leaf.shape) for k, leaf in zip(keys, leaves, strict=True)]
    )
    ours = jax.jit(lambda free: coordinates.log_joint(free, x))(free)
    theirs = jax.jit(lambda free: potential_energy(model, (x,), {}, free))(free)
    np.testing.assert_allclose(ours, -theirs, rtol=1e-12)
    back = jax.jit(lambda free: coordinates.unconstrain(coordinates.constrain(free)))(free)
    for name, value in free.items():
        np.testing.assert_allclose(back[name], value, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("num_data", [9000, 9001])  # the second is a prime number
def test_row_blocks_sum_to_the_whole(num_data: int) -> None:
    model, _ = _model(FAMILIES["diagonal"])
    rng = np.random.default_rng(0)
    many = jnp.asarray(rng.normal(0, 3, (num_data, 3)))
    assert block_rows(model, many) < num_data
    coordinates = Coordinates(model)
    params = coordinates.constrain(coordinates.zeros)
    origin = jnp.asarray([0.3, -0.2, 0.1])
    moments, log_likelihood = expectation(model, params, many, origin)
    law = model.mixture(params)
    resp = law.responsibilities(many)
    np.testing.assert_allclose(moments.counts, resp.sum(0), rtol=1e-10)
    np.testing.assert_allclose(
        moments.sums, resp.T @ AdditiveMStep.of(model.family).statistics(many - origin), rtol=1e-9, atol=1e-8
    )
    np.testing.assert_allclose(log_likelihood, law.log_prob(many).sum(), rtol=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("weighted", ["", "rows", "rows and memories"])
def test_statistics_that_are_kept_give_the_sums_of_those_that_are_not(family: str, weighted: str) -> None:
    """9001 rows do not fill the last block: it ends with rows that do not count."""
    model, x = _model(FAMILIES[family])
    rng, num_data = np.random.default_rng(0), 9001
    many = jnp.asarray(rng.normal(0, 3, (num_data, x.shape[1])))
    origin = DataSpace.of(model.family).frame(many)[0] + (0 if family == "vmf" else 0.3)
    allowed = (rng.random((num_data, model.num_components)) < 0.7) | (np.arange(model.num_components) == 0)
    counts = rng.integers(0, 3, num_data).astype(float)
    weight = {"": None, "rows": counts, "rows and memories": 1.5 * allowed}[weighted]
    weight = None if weight is None else jnp.asarray(weight)
    coordinates = Coordinates(model)
    params = coordinates.constrain(coordinates.zeros)
    kept = kept_statistics(model, many, origin, weight)
    assert kept is not None
    assert kept.statistics.shape[0] > 1
    expected = expectation(model, params, many, origin, weight)
    for ours, theirs in zip(
        jax.tree.leaves(expectation(model, params, many, origin, weight, kept)), jax.tree.leaves(expected), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-9)


def test_statistics_are_kept_within_a_bound_of_memory() -> None:
    model, _ = _model(FAMILIES["full"])
    assert kept_statistics(model, jnp.zeros((10, 3)), jnp.zeros(3)) is not None
    assert kept_statistics(model, jnp.zeros((1_000_000, 3)), jnp.zeros(3)) is None  # 72 MB


@pytest.mark.skipif(not SHARED.exists(), reason="the shared data folder is not here")
@pytest.mark.parametrize(
    ("model_name", "covariance"), [("EII", "isotropic"), ("VII", "spherical"), ("VVI", "diagonal"), ("VVV", "full")]
)
def test_maximum_likelihood_reaches_the_fixed_points_of_mclust(model_name: str, covariance: str) -> None:
    entries = json.loads((SHARED / "peer_numbers_ship" / "em_fixedpoints.json").read_text())
    for entry in entries:
        if entry["model"] != model_name or entry["name"] != "faithful":
            continue
        x = np.load(SHARED / "faithful" / "data.npz", allow_pickle=False)["X"]
        weights = weight_prior("uniform" if entry["equalPro"] else "dirichlet")
        model = mixture(x, family=Gaussian(covariance), weights=weights, num_components=entry["G"])
        states, _ = em.fit_params(
            jax.random.key(0), model, jnp.asarray(x), estimate="ml", tolerance=1e-12, max_iterations=5000, restarts=10
        ).ends
        heights = np.asarray(states.objective)
        close = np.abs(heights - entry["loglik"]) < 2e-5 * abs(entry["loglik"])
        assert close.any() or heights.max() > entry["loglik"], (entry["G"], heights, entry["loglik"])
        if heights.max() < entry["loglik"] + 1e-3:
            best = int(heights.argmax())
            found = np.sort(np.asarray(states.params["loc"][best]), axis=0)
            expected = np.sort(np.asarray(entry["mean_colmajor_dxG"]).reshape(entry["G"], entry["d"]), axis=0)
            np.testing.assert_allclose(found, expected, rtol=5e-3)


def test_a_gradient_step_of_the_exact_size_is_the_m_step() -> None:
    """CLAIMS A10 (iii): step 1 / (2 beta sum_n r_nk) in mu_k."""
    model, x = _model(FAMILIES["isotropic"], "uniform", 4)
    coordinates = Coordinates(model)
    params = {"loc": x[jnp.asarray([3, 40, 70, 110])], "beta": jnp.asarray(0.6)}
    resp = model.mixture(params).responsibilities(x)
    counts = resp.sum(0)
    free = coordinates.unconstrain(params)

    def likelihood_part(loc: jax.Array) -> jax.Array:
        moved = free | {"loc": loc}
        return expected_log_joint(coordinates, moved, resp, x) - coordinates.log_prior(moved)

    stepped = params["loc"] + jax.grad(likelihood_part)(params["loc"]) / (2 * params["beta"] * counts[:, None])
    origin = jnp.zeros(3)
    moments = Moments(counts, resp.T @ AdditiveMStep.of(model.family).statistics(x), origin)
    np.testing.assert_allclose(
        stepped, AdditiveMStep.of(model.family).maximize(moments, params, None)["loc"], rtol=1e-12
    )


@pytest.mark.parametrize("family", ["diagonal", "vmf"])
def test_gradient_em_ends_where_closed_form_em_does(family: str) -> None:
    model, x = _model(FAMILIES[family])
    closed = em.run(jax.random.key(0), model, x, restarts=4)
    gradient = gradient_em.run(jax.random.key(0), model, x, restarts=2, max_iterations=600)
    assert abs(closed.stats["lp"][0, 0] - gradient.stats["lp"][0, 0]) < 1e-3
    coordinates = Coordinates(model)
    a, b = (model.mixture(_best(r, coordinates)).log_prob(x) for r in (closed, gradient))
    np.testing.assert_allclose(a, b, atol=5e-3)


def test_gradients_of_q_are_gradients_of_the_log_joint_at_the_e_step() -> None:
    """Fisher's identity, for a family without a closed-form M-step as well."""
    model, x = _model(Gaussian("lkj"), "dp", 3)
    coordinates = Coordinates(model)
    noise = np.random.default_rng(2)
    free = {name: jnp.asarray(noise.normal(0, 0.5, value.shape)) for name, value in coordinates.zeros.items()}
    resp = model.mixture(coordinates.constrain(free)).responsibilities(x)
    q = jax.jit(jax.grad(lambda free: expected_log_joint(coordinates, free, resp, x)))(free)
    joint = jax.jit(jax.grad(lambda free: coordinates.log_joint(free, x)))(free)
    for name, slope in joint.items():
        np.testing.assert_allclose(q[name], slope, rtol=1e-8, atol=1e-8)


def test_a_family_without_an_m_step_says_what_works() -> None:
    model, x = _model(Gaussian("lkj"))
    with pytest.raises(InputError, match=r"'gaussian' with covariance 'lkj' has no closed-form M-step.*gradient_em"):
        em.run(jax.random.key(0), model, x)


def test_maximum_likelihood_refuses_stick_breaking_weights() -> None:
    model, x = _model(FAMILIES["diagonal"], "dp")
    with pytest.raises(InputError, match="maximum likelihood has no use for a DP"):
        em.run(jax.random.key(0), model, x, estimate="ml")


def test_one_memory_is_the_sample_mean_and_covariance() -> None:
    x = _data(FAMILIES["full"])
    model = mixture(x, family=Gaussian("full"), weights=weight_prior("uniform"), num_components=1)
    result = em.run(jax.random.key(0), model, jnp.asarray(x), estimate="ml", restarts=1)
    np.testing.assert_allclose(result.sites["loc"][0, 0, 0], x.mean(0), rtol=1e-10)
    factor = result.sites["precision_cholesky"][0, 0, 0]
    np.testing.assert_allclose(np.linalg.inv(factor @ factor.T), np.cov(x.T, bias=True), rtol=1e-8)


def test_the_same_key_gives_the_same_bits() -> None:
    model, x = _model(FAMILIES["diagonal"])
    one, two = (em.run(jax.random.key(9), model, x, restarts=2) for _ in range(2))
    for name, value in one.sites.items():
        np.testing.assert_array_equal(value, two.sites[name])


def test_under_a_prior_that_is_not_conjugate_engines_start_from_gradient_em() -> None:
    x = np.random.default_rng(2).normal(size=(30, 1))
    law = dist.LogNormal(0.0, 0.1).expand([1]).to_event(1)
    model = mixture(
        x, family=Gaussian("diagonal"), weights=weight_prior("uniform"), num_components=1, prior={"precision": law}
    )
    with pytest.raises(InputError, match="needs a Gamma prior on 'precision'; got LogNormal; use engine 'gradient_em'"):
        em.run(jax.random.key(0), model, jnp.asarray(x), restarts=1)
    start = constrained(model, start_at_optima(jax.random.key(0), model, jnp.asarray(x), 1).free)
    scatter = np.sum((x - np.asarray(start["loc"])[0]) ** 2)

    def minus_log_joint(u: float) -> float:  # in u = log precision, the location given
        return -(15 * u - 0.5 * np.exp(u) * scatter - u**2 / (2 * 0.1**2))

    best = minimize_scalar(minus_log_joint, bounds=(-1, 1), method="bounded", options={"xatol": 1e-9}).x
    np.testing.assert_allclose(np.log(start["precision"][0, 0, 0]), best, atol=1e-3)


_MANY_FEATURES = """
import jax
jax.config.update("jax_enable_x64", True)
import numpy as np
import probam
rows = np.random.default_rng(0).normal(size=(60, 60)) + np.repeat([[-3.0], [3.0]], 30, axis=0)
probam.fit(rows, components=2, engine="em", restarts=2, max_iterations=50)
"""


def test_many_features_do_not_stop_the_threads() -> None:
    """With jax 0.10 the batched triangular solves of this fit waited for each other for ever on two cores."""
    subprocess.run([sys.executable, "-c", _MANY_FEATURES], cwd=Path(__file__).parents[2], check=True, timeout=240)
