"""The numbers of a mixture for other programs: scikit-learn, scipy and plain NumPy find the same densities in them."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

import probam.fits.fit as api
from probam.cli.main import main
from probam.data.standardise import Standardiser
from probam.errors import InputError
from probam.fits.fitted import Fit
from probam.fits.parameters import as_gaussian_mixture, parameters_of
from probam.models.gaussian import COVARIANCES, Gaussian
from probam.models.mixture import mixture
from probam.models.weights import weight_prior

RNG = np.random.default_rng(3)
X = np.concatenate([RNG.normal(-4, [1, 3], (25, 2)), RNG.normal(4, [2, 1], (35, 2))])
UNITS = {
    "same": Standardiser(np.zeros(2), np.ones(2)),
    "other": Standardiser(np.array([1.0, -2.0]), np.array([2.0, 5.0])),
}
IN_OTHER_UNITS = {("isotropic", "other"): "diag", ("spherical", "other"): "diag"}
NAMES = {"isotropic": "spherical", "diagonal": "diag", "lkj": "full"}


@pytest.fixture(scope="module")
def fit() -> Fit:
    frame = pd.DataFrame(X, columns=["length", "width"])
    return api.fit(
        frame, covariance="diagonal", weights="dirichlet", components=2, engine="em", standardise=True, restarts=1
    )


@pytest.mark.parametrize("units", UNITS)
@pytest.mark.parametrize("kind", COVARIANCES)
def test_scikit_learn_finds_the_density_of_the_program(kind: str, units: str) -> None:
    z = UNITS[units].apply(X)
    model = mixture(z, family=Gaussian(kind), weights=weight_prior("fixed", given=(0.2, 0.5, 0.3)), num_components=3)
    keys = jax.random.split(jax.random.key(1), len(model.prior))
    params = {
        site: jnp.asarray(law.sample(key, () if site in model.family.shared else (3,)))
        for key, (site, law) in zip(keys, model.prior.items(), strict=True)
    }
    numbers = parameters_of(model, params, np.array([2, 0, 1]), ("x0", "x1"), UNITS[units])
    np.testing.assert_allclose(numbers.weights, [0.3, 0.2, 0.5], rtol=1e-12)
    assert numbers.covariance_type == IN_OTHER_UNITS.get((kind, units), NAMES.get(kind, kind))
    theirs = as_gaussian_mixture(numbers)
    law = model.mixture(params)
    expected = np.asarray(law.log_prob(z)) + UNITS[units].log_jacobian()
    np.testing.assert_allclose(theirs.score_samples(X), expected, rtol=1e-10)
    shares = np.asarray(law.responsibilities(jnp.asarray(z)))[:, [2, 0, 1]]
    np.testing.assert_allclose(theirs.predict_proba(X), shares, atol=1e-10)
    assert not hasattr(theirs, "feature_names_in_")


def test_a_fit_as_a_gaussian_mixture_gives_the_same_probabilities(fit: Fit) -> None:
    theirs = fit.to_sklearn()
    frame = pd.DataFrame(X, columns=["length", "width"])
    np.testing.assert_allclose(theirs.predict_proba(frame), fit.responsibilities(frame), rtol=0, atol=1e-10)
    np.testing.assert_allclose(theirs.score_samples(frame), fit.log_prob(frame), rtol=1e-10)
    assert list(theirs.feature_names_in_) == ["length", "width"]
    rows, _ = theirs.sample(5)
    assert rows.shape == (5, 2)


@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_a_file_has_all_that_a_density_needs(fit: Fit, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"numbers{suffix}"
    fit.parameters().save(path)
    if suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in file}
        about = json.loads(str(found["about"]))
    else:
        about = json.loads(path.read_text())
        found = {name: np.asarray(value) for name, value in about.items()}
    assert about["family"] == "gaussian,covariance=diagonal"
    assert about["covariance_type"] == "diag"
    assert list(found["columns"]) == ["length", "width"]
    joint = [
        np.log(weight) + multivariate_normal(mean, np.diag(variances)).logpdf(X)
        for weight, mean, variances in zip(found["weights"], found["means"], found["covariances"], strict=True)
    ]
    np.testing.assert_allclose(logsumexp(joint, axis=0), fit.log_prob(X), rtol=1e-10)
    of_sites = found["center"] + found["scale"] * found["site_loc"]
    np.testing.assert_allclose(of_sites, found["means"], rtol=1e-12)


def test_the_command_writes_what_the_fit_has(
    fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    fit.save("fit.nc")
    assert main(["export", "fit.nc", "-o", "numbers.json"]) == 0
    assert "2 memories of family 'gaussian,covariance=diagonal', 2 features" in capsys.readouterr().out
    np.testing.assert_array_equal(json.loads(Path("numbers.json").read_text())["means"], fit.parameters().means)
    assert main(["export", "fit.nc", "-o", "numbers.txt"]) == 2
    assert "expected a name that ends in .npz, .json" in capsys.readouterr().err
    assert main(["export", "fit.nc", "--draw", "1", "-o", "numbers.npz"]) == 2
    assert "draw: expected the number of a thinned draw, from 0 to 0" in capsys.readouterr().err


def test_what_is_no_gaussian_mixture_is_refused_in_words(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    bits = api.fit((X > 0).astype(float), family="bernoulli", weights="uniform", components=1, engine="em", restarts=1)
    with pytest.raises(InputError, match=r"to_sklearn: memories of family 'bernoulli' are no Gaussians.*ProbamMixture"):
        bits.to_sklearn()
    assert bits.parameters().covariances is None
    np.testing.assert_allclose(bits.parameters().means, bits.group("memory")["mean"], rtol=1e-12)
    drawn = api.fit(
        X, covariance="diagonal", weights="dirichlet", components=2, engine="cavi", restarts=1, num_draws=20
    )
    with pytest.raises(InputError, match=r"to_sklearn: this fit has 20 draws.*choose a draw"):
        drawn.to_sklearn()
    chosen = drawn.to_sklearn(draw=3)
    numbers = drawn.parameters(draw=3)
    np.testing.assert_allclose(np.log(chosen.weights_), np.log(numbers.weights))
    monkeypatch.setitem(fit.tree.attrs, "normalised", 1)
    with pytest.raises(InputError, match="to_sklearn: this fit divides each row by its length"):
        fit.to_sklearn()
