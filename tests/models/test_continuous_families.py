"""Laplace, Student-t, generalised normal, uniform and Lévy memories: densities, M-steps, what works and what cannot."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import scipy.special
import scipy.stats
from numpyro.distributions import Distribution

import probam.fits.fit as api
from probam.cli.main import main
from probam.distributions.generalized_normal import GeneralizedNormal, RadialLaplace
from probam.distributions.levy import Levy
from probam.distributions.mixture import MemoryMixture
from probam.distributions.student_t import EllipticalStudentT
from probam.distributions.uniform import UniformBall, UniformBox
from probam.equivalence.check import verify_mixture
from probam.errors import InputError
from probam.family import Family, Params
from probam.family.capabilities import DataSpace, MStep
from probam.fits.choices import find_family
from probam.fits.landscape import survey
from probam.models.generalized_normal import GeneralizedNormalMemory
from probam.models.laplace import Laplace, weighted_median
from probam.models.levy import LevyMemory
from probam.models.student_t import StudentT
from probam.models.uniform import UniformMemory

N, K, D = 40, 3, 2
RNG = np.random.default_rng(8)
X = np.concatenate([RNG.laplace(-4, 0.6, (24, D)), RNG.standard_t(3, (16, D)) + np.array([3, 1])])
COLUMNS = ("a", "b")
SHARES = RNG.dirichlet(np.ones(K), size=N)
LOC, BETA = RNG.normal(size=(K, D)), RNG.uniform(0.4, 2.0, size=(K, D))
FACTOR = np.tril(RNG.normal(size=(K, D, D)))
FACTOR[:, [0, 1], [0, 1]] = RNG.uniform(0.5, 1.5, size=(K, D))
DF = np.array([0.7, 3.0, 40.0])

CLOSED_FORM = (
    "laplace",
    "student_t,covariance=diagonal,df=4",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("student_t", "generalized_normal", "radial_laplace")),
)


def _bank_log_prob(bank: Distribution) -> np.ndarray:
    return np.asarray(bank.log_prob(X[:7, None, :]))


def test_densities_are_scipys() -> None:
    x = X[:7, None, :]
    power = 1.7
    cases = {
        "generalised normal": (
            _bank_log_prob(GeneralizedNormal(LOC, BETA, power).to_event(1)),
            np.sum(scipy.stats.gennorm.logpdf(x, power, LOC, BETA ** (-1 / power)), axis=-1),
        ),
        "Lévy": (_bank_log_prob(Levy(LOC, BETA).to_event(1)), np.sum(scipy.stats.levy.logpdf(x, LOC, BETA), axis=-1)),
        "box": (
            _bank_log_prob(UniformBox(LOC, 3 * BETA)),
            np.sum(scipy.stats.uniform.logpdf(x, LOC - 3 * BETA, 6 * BETA), axis=-1),
        ),
        "full t": (
            _bank_log_prob(EllipticalStudentT(DF, LOC, FACTOR)),
            np.stack(
                [
                    scipy.stats.multivariate_t(m, np.linalg.inv(L @ L.T), df=df).logpdf(X[:7])
                    for m, L, df in zip(LOC, FACTOR, DF, strict=True)
                ],
                axis=1,
            ),
        ),
        "diagonal t": (
            _bank_log_prob(EllipticalStudentT(DF, LOC, BETA)),
            np.stack(
                [
                    scipy.stats.multivariate_t(m, np.diag(1 / b), df=df).logpdf(X[:7])
                    for m, b, df in zip(LOC, BETA, DF, strict=True)
                ],
                axis=1,
            ),
        ),
    }
    for name, (found, expected) in cases.items():
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-11, err_msg=name)


@pytest.mark.parametrize("dim", [1, 3])
def test_radial_densities_integrate_to_one_over_shells(dim: int) -> None:
    sphere = 2 * np.pi ** (dim / 2) / scipy.special.gamma(dim / 2)
    centre, radius = np.full(dim, 0.3), 1.7
    radial = RadialLaplace(centre, np.asarray(1.3))
    at = centre + np.linspace(0, 40, 4001)[:, None] * np.eye(dim)[0]
    shells = sphere * np.linspace(0, 40, 4001) ** (dim - 1)
    np.testing.assert_allclose(scipy.integrate.simpson(np.exp(radial.log_prob(at)) * shells, dx=0.01), 1, rtol=1e-7)
    ball = np.exp(np.asarray(UniformBall(centre, np.asarray(radius)).log_prob(centre)))
    np.testing.assert_allclose(ball * sphere * radius**dim / dim, 1, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(
    "bank",
    [
        GeneralizedNormal(LOC, BETA, 1.5).to_event(1),
        RadialLaplace(jnp.asarray(LOC), jnp.asarray(BETA[:, 0])),
        EllipticalStudentT(10 + DF, LOC, FACTOR),
        EllipticalStudentT(10 + DF, LOC, BETA),
        UniformBox(LOC, BETA),
        UniformBall(LOC, BETA[:, 0]),
    ],
    ids=lambda bank: type(getattr(bank, "base_dist", bank)).__name__,
)
def test_draws_have_the_stated_mean_and_variance(bank: Distribution) -> None:
    """Five standard errors of 20,000 draws, 24 numbers: the fixed key fails with probability below 1e-4."""
    draws = np.asarray(bank.sample(jax.random.key(1), (20_000,)))
    mean, variance = np.asarray(bank.mean), np.asarray(bank.variance)
    error = np.sqrt(variance / len(draws))
    assert np.all(np.abs(draws.mean(0) - mean) < 5 * error)
    squares = (draws - mean) ** 2
    assert np.all(np.abs(squares.mean(0) - variance) < 5 * squares.std(0) / np.sqrt(len(draws)))
    assert np.isfinite(np.asarray(bank.log_prob(draws))).all()


def test_the_weighted_median_minimises_absolute_deviations() -> None:
    values, weights = X[:, 0], SHARES
    found = np.asarray(weighted_median(jnp.asarray(values), jnp.asarray(weights)))
    sums = np.abs(values[:, None] - values) @ weights  # at every datum, where the minimum must be
    np.testing.assert_allclose(np.sum(weights * np.abs(values[:, None] - found), axis=0), sums.min(axis=0), rtol=1e-13)
    np.testing.assert_array_equal(weighted_median(jnp.array([3.0, 1.0, 2.0]), jnp.ones((3, 1))), [2.0])
    np.testing.assert_array_equal(weighted_median(jnp.array([3.0, 1.0, 2.0]), jnp.array([[5.0], [1.0], [1.0]])), [3.0])


def _expected_log_joint(family: Family, params: Params, prior: Any) -> float:
    """sum r log p(x | params) plus the log prior in NumPyro's coordinates (logs of the positive sites)."""
    total = np.sum(SHARES * np.asarray(family.bank(params).log_prob(X[:, None, :])))
    for site, law in prior.items():
        total += np.sum(np.asarray(law.log_prob(params[site])))
        if site != "loc":
            total += np.sum(np.log(np.asarray(params[site])))
    return float(total)


@pytest.mark.parametrize(
    ("family", "site"), [(Laplace(), "scale"), (GeneralizedNormalMemory(1.4), "beta")], ids=("laplace", "power 1.4")
)
def test_the_m_step_is_each_conditional_optimum_of_scipy(family: MStep, site: str) -> None:
    prior = family.prior(X)
    start = {"loc": jnp.asarray(LOC), site: jnp.asarray(BETA)}
    fresh = jax.jit(lambda given: family.maximize_from(jnp.asarray(X), jnp.asarray(SHARES), given, prior))(start)
    for k, d in ((0, 1), (2, 0)):  # one memory's coordinate at a time: they are independent

        def loss(value: float, name: str, params: Params, k: int = k, d: int = d) -> float:
            return -_expected_log_joint(family, params | {name: params[name].at[k, d].set(value)}, prior)

        grid = np.unique(np.append(X[:, d], np.asarray(prior["loc"].mean)[d]))
        near = min(grid, key=lambda at: loss(at, "loc", start))
        best = scipy.optimize.minimize_scalar(
            loss, bounds=(near - 0.5, near + 0.5), args=("loc", start), options={"xatol": 1e-9}
        )
        np.testing.assert_allclose(fresh["loc"][k, d], best.x, atol=2e-5)
        moved = start | {"loc": fresh["loc"]}
        widths = scipy.optimize.minimize_scalar(lambda u, p=moved: loss(np.exp(u), site, p), bounds=(-6, 6))
        np.testing.assert_allclose(np.log(fresh[site][k, d]), widths.x, atol=1e-4)


def test_likelihood_m_steps_are_the_sample_estimates() -> None:
    alone = jnp.ones((N, 1))
    x = jnp.asarray(X)
    laplace = Laplace().maximize_from(x, alone, {"loc": x[:1], "scale": jnp.ones((1, D))}, None)
    middle = np.sort(X, axis=0)[N // 2 - 1]  # the lower median
    np.testing.assert_allclose(laplace["loc"][0], middle)
    np.testing.assert_allclose(laplace["scale"][0], np.abs(X - middle).mean(0))
    box = UniformMemory().maximize_from(x, alone, {"loc": x[:1], "half_width": jnp.ones((1, D))}, None)
    np.testing.assert_allclose(box["loc"][0], (X.max(0) + X.min(0)) / 2)
    np.testing.assert_allclose(box["half_width"][0], np.ptp(X, axis=0) / 2, rtol=1e-12)
    ball = UniformMemory("ball").maximize_from(x, alone, {"loc": x[:1], "radius": jnp.ones(1)}, None)
    distance = np.linalg.norm(X - np.asarray(ball["loc"]), axis=1).max()
    np.testing.assert_allclose(ball["radius"][0], distance, rtol=1e-12)

    def farthest(centre: np.ndarray) -> float:
        return float(np.linalg.norm(X - centre, axis=1).max())

    least = scipy.optimize.minimize(farthest, X.mean(0), method="Nelder-Mead").fun
    assert least * (1 - 1e-9) <= distance <= 1.03 * least


@pytest.mark.parametrize("name", CLOSED_FORM)
def test_em_never_falls_and_ends_where_nothing_is_steep(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from probam.inference.em import engine as em
    from probam.models.mixture import mixture
    from probam.models.weights import weight_prior

    monkeypatch.setattr(em, "_CHUNK", 300)
    family = find_family(name)
    model = mixture(X, family=family, weights=weight_prior("dirichlet"), num_components=2)
    result = em.run(jax.random.key(0), model, jnp.asarray(X), restarts=2, tolerance=1e-13, max_iterations=300)
    assert result.objective is not None
    rises = np.diff(result.objective, axis=1)
    assert result.status == "converged"
    assert np.nanmin(rises) > -1e-9
    loc = np.sort(result.sites["loc"][0, 0], axis=0)
    np.testing.assert_allclose(loc, [[-4, -4], [3, 1]], atol=0.8)
    if name == "student_t":
        params = {site: jnp.asarray(value[0, 0]) for site, value in result.sites.items()}
        responsibilities = model.mixture(params).responsibilities(jnp.asarray(X))

        def of(log_df: jax.Array) -> jax.Array:
            df = jnp.exp(log_df)
            joint = family.bank(params | {"df": df}).log_prob(jnp.asarray(X)[:, None, :])
            return jnp.sum(responsibilities * joint) + jnp.sum(model.prior["df"].log_prob(df) + log_df)

        np.testing.assert_allclose(jax.grad(of)(jnp.log(params["df"])), 0, atol=1e-3)


def test_a_t_of_many_degrees_of_freedom_is_the_gaussian_m_step() -> None:
    from probam.models.gaussian import Gaussian

    gaussian, family = Gaussian("diagonal"), StudentT("diagonal", df=1e12)
    prior = gaussian.prior(X)
    start = {"loc": jnp.asarray(LOC), "precision": jnp.asarray(BETA)}
    x, shares = jnp.asarray(X), jnp.asarray(SHARES)
    origin = x.mean(axis=0)
    from probam.family import Moments

    moments = Moments(shares.sum(0), shares.T @ gaussian.statistics(x - origin), origin)
    expected = gaussian.maximize(moments, start, prior)
    found = family.maximize_from(x, shares, start, prior)
    for site, value in expected.items():
        np.testing.assert_allclose(found[site], value, rtol=1e-8)


def test_a_levy_memory_begins_with_every_datum_in_a_support() -> None:
    family = LevyMemory()
    prior = family.prior(X)
    hard = np.eye(K)[RNG.integers(K - 1, size=N)]  # the last memory owns nothing
    typical = {"mode": jnp.asarray(LOC), "scale": jnp.ones((K, D))}
    params = family.start(jnp.asarray(X), jnp.asarray(hard), typical, prior)
    log_prob = np.asarray(family.bank(params).log_prob(X[:, None, :]))
    assert np.isfinite(log_prob[hard > 0]).all()
    edge = np.asarray(family.deterministics(params)["loc"])
    for k in range(K - 1):
        gaps = X[hard[:, k] > 0] - edge[k]
        np.testing.assert_allclose(params["scale"][k], 1 / np.mean(1 / gaps, axis=0))
    np.testing.assert_allclose(params["mode"], edge + np.asarray(params["scale"]) / 3)


@pytest.mark.slow
def test_memories_of_known_df_come_through_the_command_line_and_back(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "x.csv", X, delimiter=",", header="a,b", comments="")
    fit, page = tmp_path / "fit.nc", tmp_path / "page.html"
    arguments = ["--family", "student_t,df=4", "--engine", "em", "--weights", "dirichlet", "--components", "2"]
    assert main(["fit", str(tmp_path / "x.csv"), *arguments, "-o", str(fit)]) == 0
    assert main(["report", str(fit), "-o", str(page)]) == 0
    assert "--family student_t,df=4" in page.read_text()
    loaded = api.load(fit)
    assert loaded.model.family == StudentT(df=4.0)
    assert all(check.passed for check in loaded.verify())
    found = loaded.recall(np.array([[-3.0, -4.5], [2.0, 2.0]]))
    np.testing.assert_allclose(found["state"].values, [[-4, -4], [3, 1]], atol=1)
    assert found["converged"].values.all()


def test_options_in_a_name_are_read_and_written() -> None:
    family = find_family("student_t,df=4,covariance=diagonal")
    assert family == StudentT("diagonal", 4.0)
    assert find_family(family.signature) == family
    assert StudentT().signature == "student_t"


def test_a_uniform_bank_is_verified_and_says_that_nothing_moves() -> None:
    mixture = MemoryMixture(jnp.log(jnp.array([0.5, 0.2, 0.3])), UniformBox(LOC, 3 * BETA))
    inside = LOC[RNG.integers(K, size=9)] + RNG.uniform(-1, 1, size=(9, D))
    checks = verify_mixture(mixture, jnp.asarray(inside))
    assert [check.name for check in checks] == ["fast log density", "energy", "force"]
    assert all(check.passed for check in checks)
    assert "no retrieval dynamics" in survey(mixture).still


@pytest.mark.slow
def test_uniform_memories_say_why_they_recall_nothing_and_predict_only_inside(tmp_path: Path) -> None:
    fitted = api.fit(X, family="uniform,shape=ball", weights="dirichlet", components=2, engine="em", restarts=3)
    assert all(check.passed for check in fitted.verify())
    with pytest.raises(InputError, match="no retrieval dynamics: the energy is flat inside a support"):
        fitted.recall(X[:2])
    with pytest.raises(InputError, match=r"1 of 2 rows have density 0 under every memory, the first is row 1"):
        fitted.predict(np.stack([X[0], X[0] + 1e4]))
    assert fitted.predict(X[:3])["label"].shape == (3,)
    assert np.isneginf(fitted.log_prob(X[:1] + 1e4)).all()
    fitted.report(tmp_path / "page.html")


@pytest.mark.parametrize(
    ("family", "engine", "said"),
    [
        ("uniform", "gradient_em", r"'uniform': its density jumps where a datum leaves a support.*use engine 'em'"),
        ("uniform", "nuts", r"gradients in the parameters do not see the jump; use engine 'em'"),
        ("levy", "em", r"no closed-form M-step \(its support begins at mu_k.*use engine 'gradient_em' or 'nuts'"),
        ("levy", "svi", r"the evidence bound is minus infinity; use engine 'gradient_em' or 'nuts'"),
        ("student_t,df=-1", "em", r"df: expected degrees of freedom above 0"),
        ("student_t,covariance=lkj", "em", r"covariance: expected one of diagonal, full; got 'lkj'"),
        ("generalized_normal,power=0.5", "em", r"power: expected a number of at least 1.*got 0.5"),
        ("generalized_normal,power=big", "em", r"power: family 'generalized_normal' expects a number; got 'big'"),
        ("uniform,shape=star", "em", r"shape: expected one of box, ball; got 'star'"),
        ("laplace,df=3", "em", r"df: family 'laplace' has no such option; it has none"),
    ],
)
def test_what_cannot_be_says_so_and_why(family: str, engine: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        api.fit(X, family=family, engine=engine, weights="dirichlet", components=2)


@pytest.mark.parametrize("name", ["laplace", "student_t", "generalized_normal", "radial_laplace", "uniform", "levy"])
def test_a_constant_column_is_refused_by_name(name: str) -> None:
    x = X.copy()
    x[:, 1] = 3
    with pytest.raises(InputError, match=r"column 'b' is constant, and a .* needs some spread"):
        DataSpace.of(find_family(name)).check_data(x, COLUMNS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "engine", "options"),
    [
        (name, engine, options)
        for name in ("laplace", "student_t", "generalized_normal", "radial_laplace", "levy")
        for engine, options in (
            ("gradient_em", {"weights": "pyp", "components": 3, "restarts": 2, "max_iterations": 200}),
            ("svi", {"weights": "dp", "components": 3, "num_steps": 400, "restarts": 1, "num_draws": 100}),
            ("nuts", {"weights": "uniform", "components": 2, "num_warmup": 150, "num_draws": 100, "num_chains": 2}),
        )
        if (name, engine) != ("levy", "svi")
    ],
)
def test_every_engine_and_law_of_weights_fits_recalls_and_verifies(
    name: str, engine: str, options: dict[str, Any]
) -> None:
    fitted = api.fit(X, family=name, engine=engine, **options)
    assert [check for check in fitted.verify() if not check.passed] == []
    found = fitted.recall(np.array([[-3.9, -3.9], [3.2, 1.4]]))
    assert np.all(found["energy"].values <= fitted.energy(np.array([[-3.9, -3.9], [3.2, 1.4]])))
    assert found["basin"].values[0] != found["basin"].values[1]
    assert np.isfinite(fitted.sample(5)).all()
