"""Features given others under several draws: against quadrature, enumeration and closed forms of the joint density."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pandas as pd
import pytest
import xarray as xr
from scipy import stats

import probam.fits.fit as api
from probam.data.standardise import Standardiser, identity
from probam.errors import InputError
from probam.family import Params
from probam.fits.choices import find_family
from probam.fits.conditional import ConditionalDistribution, rows_given
from probam.fits.fitted import Fit
from probam.models.mixture import Mixture, mixture
from probam.models.weights import weight_prior

RNG = np.random.default_rng(3)
COLUMNS = ("a", "b", "c")
X = RNG.multivariate_normal([1.0, -1.0, 0.5], [[1, 0.7, 0.2], [0.7, 1, -0.3], [0.2, -0.3, 1]], 40)
GIVEN = {"a": [0.3, 2.0], "c": [0.9, np.nan]}
SPAN = np.stack([X.min(axis=0), X.max(axis=0)])
LEVELS = (0.05, 0.5, 0.95)


def model_of(name: str, x: np.ndarray = X, num_components: int = 2, **options: Any) -> Mixture:
    """A finite mixture whose weights have a Dirichlet prior."""
    family = find_family(name, options.get("covariance"))
    return mixture(x, family=family, weights=weight_prior("dirichlet"), num_components=num_components)


def from_the_prior(model: Mixture, num_draws: int = 3) -> Params:
    """Site values of several draws of the prior."""
    traces = [
        numpyro.handlers.trace(numpyro.handlers.seed(model.parameters, jax.random.key(i))).get_trace()
        for i in range(num_draws)
    ]
    sites = [name for name, site in traces[0].items() if site["type"] == "sample"]
    return {name: jnp.stack([trace[name]["value"] for trace in traces]) for name in sites}


def law_of(
    model: Mixture, sites: Params, target: Any, given: Any, units: Standardiser | None = None
) -> ConditionalDistribution:
    """The conditional distribution at given draws."""
    columns = COLUMNS[: len(SPAN[0])]
    return ConditionalDistribution.of(
        rows_given(target, given, columns, np.dtype(float)), model, sites, units or identity(len(columns)), SPAN
    )


def joint(model: Mixture, sites: Params, rows: np.ndarray) -> np.ndarray:
    """Density of whole rows, averaged over the draws, by the mixture itself."""
    each = [
        model.mixture({name: value[s] for name, value in sites.items()}).log_prob(jnp.asarray(rows)) for s in range(3)
    ]
    return np.asarray(np.mean(np.exp(each), axis=0))


LINE = np.sinh(np.linspace(-9, 9, 6001))
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    **{kind: ("gaussian", {"covariance": kind}) for kind in ("isotropic", "spherical", "diagonal", "tied", "full")},
    "lkj": ("gaussian", {"covariance": "lkj"}),
    "student_t full": ("student_t", {"covariance": "full"}),
    "student_t diagonal": ("student_t", {"covariance": "diagonal"}),
    "laplace": ("laplace", {}),
    "generalized_normal": ("generalized_normal", {}),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_one_feature_is_distributed_as_its_slice_of_the_joint_density(name: str) -> None:
    """Quadrature of the density of whole rows, of which the given entries stay fixed."""
    model = model_of(FAMILIES[name][0], **FAMILIES[name][1])
    sites = from_the_prior(model)
    law = law_of(model, sites, "b", {"a": [0.3, 2.0], "c": [0.9, -0.5]})
    found = law.quantile(LEVELS)
    log_prob = law.log_prob([0.1, -2.0])
    for n, (a, c, b) in enumerate([(0.3, 0.9, 0.1), (2.0, -0.5, -2.0)]):
        height = joint(model, sites, np.stack([np.full_like(LINE, a), LINE, np.full_like(LINE, c)], axis=1))
        total = np.trapezoid(height, LINE)
        mean = np.trapezoid(height * LINE, LINE) / total
        np.testing.assert_allclose(law.mean[n, 0], mean, atol=2e-3)
        below = np.concatenate([[0], np.cumsum(np.diff(LINE) * (height[1:] + height[:-1]) / 2)]) / total
        np.testing.assert_allclose(np.interp(found[:, n, 0], LINE, below), LEVELS, atol=1e-4)
        exact = np.log(joint(model, sites, np.array([[a, b, c]])) / total)
        np.testing.assert_allclose(log_prob[n], exact[0], atol=1e-4)
        if "student" not in name:
            sd = np.sqrt(np.trapezoid(height * (LINE - mean) ** 2, LINE) / total)
            np.testing.assert_allclose(law.sd[n, 0], sd, rtol=1e-3)


@pytest.mark.parametrize("name", ["full", "student_t full", "laplace"])
def test_draws_fall_below_quantiles_as_often_as_the_levels_say(name: str) -> None:
    """4 standard errors for 6 shares: a false alarm in 1 of 2600 keys."""
    model = model_of(FAMILIES[name][0], **FAMILIES[name][1])
    law = law_of(model, from_the_prior(model), "b", GIVEN)
    draws = law.sample(4000, seed=1)
    assert draws.dims == ("draw", "datum", "feature")
    assert draws.shape == (4000, 2, 1)
    share = (draws <= law.quantile(LEVELS)).mean("draw")
    for level in LEVELS:
        each = share.sel(quantile=level)
        assert np.all(np.abs(each - level) < 4 * np.sqrt(level * (1 - level) / 4000))
    xr.testing.assert_identical(draws, law.sample(4000, seed=1))


def test_several_targets_of_one_gaussian_have_the_regression_of_the_textbook() -> None:
    model = model_of("gaussian", covariance="full", num_components=1)
    sites = from_the_prior(model, num_draws=1)
    factor, loc = (np.asarray(sites[name][0, 0]) for name in ("precision_cholesky", "loc"))
    covariance = np.linalg.inv(factor @ factor.T)
    units = Standardiser(np.array([10.0, -5.0, 100.0]), np.array([2.0, 0.1, 30.0]))
    loc, covariance = units.invert(loc), covariance * np.outer(units.scale, units.scale)
    law = law_of(model, sites, ["c", "a"], {"b": [-5.1]}, units)
    at = [2, 0]
    gain = covariance[np.ix_(at, [1])] / covariance[1, 1]
    mean = loc[at] + gain[:, 0] * (-5.1 - loc[1])
    rest = covariance[np.ix_(at, at)] - gain @ covariance[np.ix_([1], at)]
    np.testing.assert_allclose(law.mean[0], mean, rtol=1e-10)
    np.testing.assert_allclose(law.sd[0], np.sqrt(np.diag(rest)), rtol=1e-10)
    np.testing.assert_allclose(law.quantile(0.975)[0, 0], mean + 1.959963984540054 * np.sqrt(np.diag(rest)), rtol=1e-9)
    y = mean + np.array([40.0, -1.0])
    table = pd.DataFrame([y], columns=["c", "a"])
    np.testing.assert_allclose(law.log_prob(table), [stats.multivariate_normal(mean, rest).logpdf(y)], rtol=1e-10)
    one = stats.norm(mean[1], np.sqrt(rest[1, 1])).logpdf(y[1])
    np.testing.assert_allclose(law.log_prob(table.assign(c=np.nan)), [one], rtol=1e-10)
    draws = law.sample(4000).values[:, 0]
    standard = np.linalg.solve(np.linalg.cholesky(rest), (draws - mean).T)
    np.testing.assert_allclose(np.corrcoef(standard) - np.eye(2), 0, atol=4 / np.sqrt(4000))
    np.testing.assert_allclose(standard.var(axis=1), 1, atol=4 * np.sqrt(2 / 4000))


def test_bits_by_enumeration() -> None:
    model = model_of("bernoulli", (X > 0).astype(float), num_components=3)
    sites = from_the_prior(model)
    rows = np.array(list(itertools.product((0.0, 1.0), repeat=3)))
    mass = dict(zip(map(tuple, rows), joint(model, sites, rows), strict=True))
    law = law_of(model, sites, ["a", "c"], {"b": [1.0]})
    whole = sum(mass[a, 1, c] for a, c in itertools.product((0, 1), repeat=2))
    np.testing.assert_allclose(law.mean[0, 0], (mass[1, 1, 0] + mass[1, 1, 1]) / whole, rtol=1e-10)
    for a, c in itertools.product((0.0, 1.0), repeat=2):
        np.testing.assert_allclose(law.log_prob([[a, c]]), [np.log(mass[a, 1, c] / whole)], rtol=1e-10)
    up = float(law.mean[0, 1])
    np.testing.assert_array_equal(law.quantile([0.5 * (1 - up), 0.999 * (1 - up), 1 - 0.5 * up])[:, 0, 1], [0, 0, 1])
    draws = law.sample(2000)
    assert set(np.unique(draws)) == {0.0, 1.0}
    np.testing.assert_allclose(draws.mean("draw")[0, 1], up, atol=4 * np.sqrt(up * (1 - up) / 2000))


def test_counts_by_summation() -> None:
    x = RNG.poisson([4.0, 2.0, 7.0], (40, 3)).astype(float)
    model = model_of("multinomial", x)
    sites = from_the_prior(model)
    law = law_of(model, sites, "b", {"a": [3.0], "c": [5.0]})
    counts = np.arange(400.0)
    mass = joint(model, sites, np.stack([np.full(400, 3.0), counts, np.full(400, 5.0)], axis=1))
    mass /= mass.sum()
    np.testing.assert_allclose(law.mean[0, 0], mass @ counts, rtol=1e-9)
    np.testing.assert_allclose(law.log_prob([2.0]), [np.log(mass[2])], rtol=1e-9)
    exact = np.searchsorted(np.cumsum(mass), LEVELS)
    np.testing.assert_array_equal(law.quantile(LEVELS)[:, 0, 0], exact)


@pytest.fixture(scope="module")
def fit() -> Fit:
    """Two memories of three named features in very different units."""
    x = np.concatenate([X, X + 6]) * [1, 100, 0.01]
    return api.fit(
        pd.DataFrame(x, columns=list(COLUMNS)),
        covariance="full",
        weights="dirichlet",
        components=2,
        engine="em",
        restarts=1,
        standardise=True,
    )


def test_a_fit_answers_in_the_units_of_the_data_as_complete_does(fit: Fit) -> None:
    rows = pd.DataFrame({"a": [0.3, 7.0, np.nan], "b": [np.nan, np.nan, 500.0], "c": [0.009, np.nan, 0.06]})
    law = fit.conditional("b", rows)
    completed = fit.complete(rows.assign(b=np.nan))
    np.testing.assert_allclose(law.mean, completed["conditional_mean"].sel(feature=["b"]), rtol=1e-10)
    np.testing.assert_allclose(law.sd, completed["conditional_sd"].sel(feature=["b"]), rtol=1e-10)
    answer = law.to_dataset([0.1, 0.9])
    assert answer["quantiles"].dims == ("quantile", "datum", "feature")
    np.testing.assert_allclose(answer["recall"], completed["descent"].sel(feature=["b"]), rtol=1e-10)
    np.testing.assert_allclose(answer["recall_converged"], 1)
    line = np.linspace(-1000, 2000, 20_001)
    density = np.exp(fit.log_prob(pd.DataFrame({"a": 0.3, "b": line, "c": 0.009})))
    exact = np.log(np.interp(-90, line, density) / np.trapezoid(density, line))
    np.testing.assert_allclose(law.log_prob([-90.0, 0.0, 0.0])[0], exact, atol=1e-5)


def test_given_features_may_be_absent_by_name_but_not_misspelt(fit: Fit) -> None:
    only_a = fit.conditional("b", {"a": 1.0})
    with_gap = fit.conditional("b", pd.DataFrame({"c": [np.nan], "day": "monday", "a": [1.0], "b": [3.0]}))
    np.testing.assert_array_equal(only_a.mean, with_gap.mean)
    np.testing.assert_array_equal(only_a.mean, fit.conditional("b", [[1.0, np.nan]]).mean)
    with pytest.raises(InputError, match=r"given: expected the 2 features that were learned \('a', 'c'\); got 2"):
        fit.conditional("b", {"a": 1.0, "C": 0.01})
    with pytest.raises(InputError, match="given: expected the 2 features that were learned"):
        fit.conditional("b", [[1.0, 2.0, 3.0]])


def test_what_rows_lack_is_imputed_and_what_they_have_stays(fit: Fit) -> None:
    rows = pd.DataFrame({"a": [0.3, np.nan], "b": [np.nan, 30.0], "c": [0.009, 0.01]})
    law = fit.conditional(None, given=rows)
    assert law.question.target == ("a", "b")
    for values in (law.mean, law.quantile(0.3)[0], law.sample(5)[2], law.recall()["recall"]):
        np.testing.assert_array_equal([values[0, 0], values[1, 1]], [0.3, 30.0])
        assert np.isfinite(values).all()
    np.testing.assert_array_equal(law.sd.values == 0, [[True, False], [False, True]])
    alone = fit.conditional("b", given=rows.iloc[[0]])
    np.testing.assert_allclose(law.log_prob([[9.0, 50.0], [1.0, 9.0]])[0], alone.log_prob([50.0])[0], rtol=1e-10)
    with pytest.raises(InputError, match="no entry is missing"):
        fit.conditional(None, given=rows.fillna(1.0))


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ({"target": "y"}, "target: the fit has no feature 'y'; it has a, b, c"),
        ({"target": []}, "target: expected names of features, each once"),
        ({"target": ["a", "a"]}, "target: expected names of features, each once"),
        ({"target": ["a", "b", "c"]}, "target: these are all features of the fit"),
        ({"target": "b", "num_draws": 0}, "num_draws: expected a whole number of at least 1"),
    ],
)
def test_questions_without_a_meaning_are_refused(fit: Fit, question: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit.conditional(given={"a": 1.0, "c": 0.01}, **question)


def test_answers_check_their_arguments(fit: Fit) -> None:
    law = fit.conditional("b", {"a": 1.0})
    refused: list[Any] = [0.0, [0.5, 1.0], [], [[0.5]]]
    for levels in refused:
        with pytest.raises(InputError, match="levels: expected probabilities between 0 and 1"):
            law.quantile(levels)
    with pytest.raises(InputError, match="data: expected 1 rows, one for each row given; got 2"):
        law.log_prob([1.0, 2.0])
    with pytest.raises(InputError, match="num_draws"):
        law.sample(0)


def test_families_without_an_answer_say_so() -> None:
    directions = X / np.linalg.norm(X, axis=1, keepdims=True)
    model = model_of("vmf", directions)
    with pytest.raises(InputError, match="VonMisesFisher has no exact conditional distribution"):
        law_of(model, from_the_prior(model), "b", GIVEN)
    box = model_of("uniform")
    with pytest.raises(InputError, match="1 of 1 rows have density 0 under every memory, the first is row 0"):
        law_of(box, from_the_prior(box), "b", {"a": [1e6], "c": [0.0]})


def test_a_law_without_a_mean_still_has_quantiles() -> None:
    model = model_of("levy", np.abs(X) + 0.1)
    sites = from_the_prior(model)
    law = law_of(model, sites, "b", {"a": [50.0], "c": [70.0]})
    assert np.isinf(law.mean).all()
    assert np.isinf(law.sd).all()
    answer = law.to_dataset()
    assert np.isfinite(answer["quantiles"]).all()
    assert "recall" not in answer
    assert "finite mean" in answer.attrs["no_recall"]
