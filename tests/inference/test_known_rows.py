"""Rows that count more or less than once, and rows whose memory is known: against closed forms and enumeration."""

import importlib
import inspect
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.infer.util import log_density
from scipy import stats
from scipy.special import logsumexp

import probam.fits.fit as api
import probam.fits.options as fit_options
from probam.errors import InputError
from probam.inference.cavi.engine import Search, fit_factors
from probam.inference.common.coordinates import Coordinates
from probam.inference.common.ordering import in_order
from probam.inference.common.rows import counted
from probam.inference.em import engine as em
from probam.inference.gibbs import engine as gibbs
from probam.inference.gradient_em import engine as gradient_em
from probam.inference.svi.batch import draw_batch
from probam.models.gaussian import Gaussian
from probam.models.mixture import Mixture, mixture
from probam.models.weights import weight_prior

RNG = np.random.default_rng(8)
TRUTH = np.repeat([0, 1, 2], [5, 20, 15])
X = RNG.normal(size=(40, 2)) + 1.5 * np.array([[0, 0], [1, 1], [2, 0]])[TRUTH]
LABELS = np.where(RNG.uniform(size=40) < 0.4, TRUTH, -1)
WEIGHT = RNG.uniform(0.2, 3, 40)


def model_of(x: np.ndarray = X, covariance: str = "diagonal", num_components: int = 3) -> Mixture:
    """A finite mixture of Gaussians."""
    return mixture(x, family=Gaussian(covariance), weights=weight_prior("dirichlet"), num_components=num_components)


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_labels_of_all_rows_give_the_moments_of_each_class(covariance: str) -> None:
    """Maximum likelihood in closed form: mean, variance and share of each class, weighted."""
    result = em.run(
        jax.random.key(0),
        model_of(covariance=covariance),
        jnp.asarray(X),
        estimate="ml",
        restarts=2,
        sample_weight=WEIGHT,
        labels=TRUTH,
    )
    for k in range(3):
        own, w = X[k == TRUTH], WEIGHT[k == TRUTH]
        np.testing.assert_allclose(result.sites["loc"][0, 0, k], np.average(own, axis=0, weights=w), rtol=1e-9)
        np.testing.assert_allclose(result.sites["weights"][0, 0, k], w.sum() / WEIGHT.sum(), rtol=1e-9)
        scatter = np.cov(own.T, aweights=w, ddof=0)
        if covariance == "full":
            factor = result.sites["precision_cholesky"][0, 0, k]
            np.testing.assert_allclose(np.linalg.inv(factor @ factor.T), scatter, rtol=1e-6)
        else:
            np.testing.assert_allclose(1 / result.sites["precision"][0, 0, k], np.diag(scatter), rtol=1e-7)


def test_the_likelihood_is_the_sum_over_all_assignments_that_the_labels_allow() -> None:
    """Enumeration of 3^5 assignments, with SciPy's normal density; the program of the model says the same."""
    model, x = model_of(), jnp.asarray(X[:5])
    allowed = np.array([[1, 0, 0], [1, 1, 1], [0, 1, 1], [1, 1, 1], [0, 0, 1]], bool)
    told, _ = counted(model, x, None, allowed)
    params: dict[str, Any] = {
        "loc": jnp.asarray(RNG.normal(size=(3, 2))),
        "precision": jnp.asarray(RNG.uniform(0.5, 2, (3, 2))),
        "proportions": jnp.array([0.2, 0.5, 0.3]),
    }
    log_density_of = stats.norm(params["loc"], params["precision"] ** -0.5).logpdf(X[:5, None]).sum(axis=-1)
    log_joint = log_density_of + np.log(params["proportions"])
    terms = [
        log_joint[np.arange(5), z].sum()
        for z in map(list, itertools.product(range(3), repeat=5))
        if allowed[np.arange(5), z].all()
    ]
    assert len(terms) == 1 * 3 * 2 * 3 * 1
    value = float(Coordinates(told).log_likelihood(params, x))
    np.testing.assert_allclose(value, logsumexp(terms), rtol=1e-12)
    of_program, of_prior = (
        log_density(program, args, {}, params)[0] for program, args in ((told, (x,)), (told.parameters, ()))
    )
    np.testing.assert_allclose(of_program - of_prior, value, rtol=1e-12)
    weighted, _ = counted(model, x, WEIGHT[:5], allowed)
    each = logsumexp(np.where(allowed, log_joint, -np.inf), axis=1)
    np.testing.assert_allclose(Coordinates(weighted).log_likelihood(params, x), WEIGHT[:5] @ each, rtol=1e-12)


@pytest.mark.parametrize("missing", [False, True])
def test_em_climbs_that_likelihood_and_gradient_em_ends_where_it_does(missing: bool) -> None:
    covariance = "full" if missing else "diagonal"
    x = X.copy()
    if missing:
        x[::7, 0] = x[3::7, 1] = np.nan
    model = model_of(x, covariance)
    known: dict[str, Any] = {"sample_weight": np.where(np.arange(40) == 6, 0, WEIGHT), "labels": LABELS}
    result = em.run(jax.random.key(0), model, jnp.asarray(x), restarts=2, **known)
    told, rows = counted(model, jnp.asarray(x), **known)
    assert len(rows) == 39
    coordinates = Coordinates(told)
    params = {name: jnp.asarray(result.sites[name][0, 0]) for name in coordinates.transforms}
    free = coordinates.unconstrain(params)
    np.testing.assert_allclose(result.stats["lp"][0, 0], coordinates.log_joint(free, rows), rtol=1e-9)
    slope = jax.grad(coordinates.log_joint)(free, rows)
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(slope)) < 1e-2
    assert result.objective is not None
    assert np.nanmin(np.diff(result.objective, axis=1)) > -1e-8
    if not missing:
        other = gradient_em.run(jax.random.key(0), model, jnp.asarray(x), optimiser="ecg", restarts=2, **known)
        np.testing.assert_allclose(other.stats["lp"], result.stats["lp"], atol=1e-4)


def test_minibatches_estimate_the_weighted_likelihood_without_bias() -> None:
    """4 standard errors: a false alarm in 1 of 15000 keys."""
    told, x = counted(model_of(), jnp.asarray(X), WEIGHT, LABELS)
    coordinates = Coordinates(told)
    params = coordinates.constrain(coordinates.zeros)
    exact = float(coordinates.log_likelihood(params, x))
    whole = draw_batch(jax.random.key(0), told, x, 40)
    np.testing.assert_allclose(whole.log_likelihood(coordinates, params), exact, rtol=1e-12)
    np.testing.assert_allclose(whole.num_data, WEIGHT.sum(), rtol=1e-12)
    estimate = jax.jit(jax.vmap(lambda key: draw_batch(key, told, x, 7).log_likelihood(coordinates, params)))
    values = np.asarray(estimate(jax.random.split(jax.random.key(1), 2000)))
    assert abs(values.mean() - exact) < 4 * values.std() / np.sqrt(2000)


SAMPLERS: dict[str, tuple[dict[str, Any], float]] = {
    "nuts": ({"num_warmup": 150, "num_draws": 400, "num_chains": 2}, 0.03),
    "smc": ({"num_particles": 400, "num_chains": 2}, 0.03),
    "svi": ({"num_steps": 1500, "num_draws": 1000, "restarts": 1}, 0.04),
    "cavi": ({"num_draws": 1000, "restarts": 1}, 0.01),
    "gibbs": ({"num_warmup": 50, "num_draws": 500, "num_chains": 2}, 0.01),
}


@pytest.mark.parametrize("engine", SAMPLERS)
def test_given_all_labels_the_shares_have_the_posterior_of_counting(engine: str) -> None:
    """Dirichlet(1) prior and weighted counts n: the share of memory 0 is Beta(1 + n_0, 1 + n_1).

    Its standard deviation is 0.06, and that of its mean over 200 effective draws 0.004.
    """
    options, tolerance = SAMPLERS[engine]
    x, labels = X[:25, :1], (TRUTH[:25] > 0).astype(int)
    weight = np.where(labels == 0, 1.5, 1.0) * RNG.uniform(0.5, 1.5, 25) if engine != "gibbs" else np.ones(25)
    known = {"labels": labels} | ({"sample_weight": weight} if engine != "gibbs" else {})
    run = importlib.import_module(f"probam.inference.{engine}.engine").run
    model = model_of(x, "isotropic", num_components=2)
    result = run(jax.random.key(0), model, jnp.asarray(x), **known, **options)
    share = result.sites["weights"][..., 0]
    first, second = (1 + weight[labels == k].sum() for k in (0, 1))
    np.testing.assert_allclose(share.mean(), first / (first + second), atol=tolerance)
    np.testing.assert_allclose(share.std(), stats.beta(first, second).std(), rtol=0.3)


def test_gibbs_reports_the_joint_density_of_what_is_known() -> None:
    x = X.copy()
    x[::7, 0] = np.nan
    for data in (X, x):
        model = model_of(data)
        result = gibbs.run(
            jax.random.key(0), model, jnp.asarray(data), labels=LABELS, num_chains=1, num_warmup=1, num_draws=3
        )
        told, rows = counted(model, jnp.asarray(data), None, LABELS)
        coordinates = Coordinates(told)
        for draw in range(3):
            params = {name: jnp.asarray(result.sites[name][0, draw]) for name in coordinates.transforms}
            exact = coordinates.log_joint(coordinates.unconstrain(params), rows)
            np.testing.assert_allclose(result.stats["lp"][0, draw], exact, rtol=1e-9)
    with pytest.raises(InputError, match="labels: kernel 'auxiliary' moves memories from number to number"):
        gibbs.run(jax.random.key(0), model_of(), jnp.asarray(X), labels=LABELS, kernel="auxiliary")


def test_cavi_counts_a_row_of_weight_three_as_three_rows() -> None:
    weight = RNG.integers(1, 4, 40)
    start = np.eye(3)[TRUTH]
    model = model_of()
    search = Search(moves=False, batch_size=13)
    bounds = []
    for x, w, labels in ((X, weight, LABELS), (np.repeat(X, weight, axis=0), None, np.repeat(LABELS, weight))):
        told, rows = counted(model, jnp.asarray(x), w, labels)
        hard = start * weight[:, None] if w is not None else np.repeat(start, weight, axis=0)
        _, state, trace, _ = fit_factors(jax.random.key(0), told, rows, search, start=jnp.asarray(hard, float))
        assert np.nanmin(np.diff(trace[0])) > -1e-9
        bounds.append(float(state.bound))
    np.testing.assert_allclose(bounds[0], bounds[1], rtol=1e-6)


def test_memories_of_a_fit_have_the_numbers_of_the_labels() -> None:
    """Also where a larger memory has a larger number; the file says what was known."""
    fit = api.fit(X, covariance="isotropic", weights="dirichlet", components=3, engine="em", labels=TRUTH, restarts=1)
    np.testing.assert_array_equal(fit.tree["observed_data"].to_dataset()["allowed"], np.eye(3)[TRUTH])
    memory = fit.tree["memory"].to_dataset()
    np.testing.assert_allclose(memory["weight"], (np.bincount(TRUTH) + 1) / 43, rtol=1e-9)  # under Dirichlet(1)
    assert memory.attrs["relabelling"] == "labels"
    assert "memories of 40 of 40 rows known" in fit.tree.attrs["model"]
    far = [np.mean(X[k == TRUTH], axis=0) + shift for k, shift in ((0, np.array([-5, 0])), (2, np.array([5, -5])))]
    np.testing.assert_array_equal(fit.predict(far)["label"], [0, 2])


def test_engines_take_what_the_options_say() -> None:
    for engine in fit_options.ENGINES:
        parameters = inspect.signature(importlib.import_module(f"probam.inference.{engine}.engine").run).parameters
        assert ("sample_weight" in parameters) == (engine in fit_options._TAKE_WEIGHTS)
        assert ("labels" in parameters) == (engine in fit_options._TAKE_LABELS)


@pytest.mark.parametrize("engine", ["clam"])
def test_other_engines_say_which_take_labels(engine: str) -> None:
    with pytest.raises(
        InputError, match=f"labels: engine '{engine}' does not hold rows to known memories; use one of em"
    ):
        api.fit(X, weights="dirichlet", components=3, engine=engine, labels=LABELS)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.full(40, 3), "row 0 has 3"),
        (np.full(40, -2), "expected 40 whole numbers from -1"),
        (np.full(40, 0.5), "row 0 has 0.5"),
        (np.zeros(39, int), "got shape"),
        (np.array(["a"] * 40), "got shape"),
        (np.zeros((40, 3), bool), "row 0 may belong to no memory"),
        (np.zeros((40, 2), bool), "got shape"),
    ],
)
def test_labels_that_mean_nothing_are_refused(labels: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=f"labels: .*{message}"):
        api.fit(X, weights="dirichlet", components=3, engine="em", labels=labels)


def test_labels_leave_no_other_order_to_the_memories() -> None:
    told, _ = counted(model_of(), jnp.asarray(X), None, LABELS)
    with pytest.raises(InputError, match="order: the known labels number the memories already"):
        in_order(told, "weight")
