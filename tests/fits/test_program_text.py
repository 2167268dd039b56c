"""The text of a fit's model is a NumPyro program without probam, and its log joint density is ours at every draw."""

import re
import runpy
from pathlib import Path
from typing import Any

import jax
import numpy as np
import numpyro.distributions as dist
import pytest
from numpyro.infer.util import log_density

import probam
from probam.cli.main import main
from probam.data.standardise import identity
from probam.errors import InputError
from probam.fits.choices import find_family
from probam.fits.program_text import program_text
from probam.inference.common.coordinates import Coordinates
from probam.models.mixture import Mixture, mixture
from probam.models.weights import weight_prior

RNG = np.random.default_rng(4)
POINTS = np.concatenate([RNG.normal(c, 0.8, (9, 3)) for c in (-2, 0, 2)]) * [1.0, 2.0, 0.5]
SPHERE = POINTS / np.linalg.norm(POINTS, axis=1, keepdims=True)
ROWS: dict[str, np.ndarray] = {
    "vmf": SPHERE,
    "bernoulli": (POINTS > 0).astype(float),
    "multinomial": RNG.poisson(4.0, (20, 3)).astype(float),
    "dirichlet": RNG.dirichlet([2.0, 3.0, 4.0], 20),
}
WEIGHTS: dict[str, dict[str, Any]] = {
    "uniform": {},
    "fixed": {"given": (0.2, 0.3, 0.5)},
    "dirichlet": {"alpha": 0.7},
    "dp": {},
    "pyp": {},
    "pyp of known numbers": {"alpha": 1.5, "discount": 0.25},
}
MODELS = [
    *(
        ("gaussian", covariance, "dirichlet")
        for covariance in ("isotropic", "spherical", "diagonal", "tied", "full", "lkj")
    ),
    *(("gaussian", "diagonal", weights) for weights in WEIGHTS if weights != "dirichlet"),
    *(("gaussian", covariance, weights) for covariance in ("isotropic", "full") for weights in ("dp", "pyp")),
    *(("vmf", None, weights) for weights in ("dirichlet", "dp", "pyp")),
    *((family, None, "dirichlet") for family in ("laplace", "bernoulli", "multinomial", "dirichlet")),
    *(("student_t", covariance, "dirichlet") for covariance in ("diagonal", "full")),
]


def model_of(family: str, covariance: str | None, weights: str, **others: Any) -> tuple[Mixture, np.ndarray]:
    x = ROWS.get(family, POINTS)
    prior = weight_prior(weights.split()[0], **WEIGHTS[weights])
    return mixture(x, family=find_family(family, covariance), weights=prior, num_components=3, **others), x


def text_of(model: Mixture, x: np.ndarray, **how: bool) -> str:
    columns = tuple(f"x{i}" for i in range(x.shape[1]))
    how = {"normalised": False, "is_double": True} | how
    return program_text(model, columns, identity(x.shape[1], x.dtype), **how)


def run(text: str, folder: Path) -> dict[str, Any]:
    """The names that the program defines, run as a file of its own."""
    assert "probam" not in re.sub(r'""".*?"""', "", text, flags=re.DOTALL)
    (folder / "model.py").write_text(text)
    return runpy.run_path(str(folder / "model.py"))


def draws(model: Mixture, number: int = 3) -> list[dict[str, jax.Array]]:
    """Site values over most of their range."""
    coordinates = Coordinates(model)
    keys = jax.random.split(jax.random.key(0), number)
    return [
        coordinates.constrain(
            {
                name: jax.random.normal(jax.random.fold_in(key, i), shape)
                for i, (name, shape) in enumerate(coordinates.shapes.items())
            }
        )
        for key in keys
    ]


def ours(model: Mixture, x: np.ndarray, params: dict[str, jax.Array]) -> float:
    prior, _ = log_density(model.parameters, (), {}, params)
    return float(prior + Coordinates(model).log_likelihood(params, jax.numpy.asarray(x)))


@pytest.mark.parametrize(("family", "covariance", "weights"), MODELS)
def test_the_log_joint_density_of_the_text_is_that_of_the_model(
    family: str, covariance: str | None, weights: str, tmp_path: Path
) -> None:
    model, x = model_of(family, covariance, weights)
    program = run(text_of(model, x), tmp_path)["model"]
    for params in draws(model):
        theirs, trace = log_density(program, (jax.numpy.asarray(x),), {}, params)
        assert {name for name, site in trace.items() if site["type"] == "sample"} == {*params, "x"}
        np.testing.assert_allclose(theirs, ours(model, x, params), rtol=1e-10)


@pytest.mark.parametrize("dimension", [2, 3, 10, 40])
def test_the_density_of_directions_has_its_normaliser(dimension: int, tmp_path: Path) -> None:
    """Against SciPy, from flat to sharp, where the series hands over to the expansion too."""
    from scipy.stats import vonmises_fisher

    model, x = model_of("vmf", None, "uniform")
    law = run(text_of(model, x), tmp_path)["VonMisesFisher"]
    mean, value = np.eye(dimension)[0], np.full(dimension, dimension**-0.5)
    kappa = np.array([0.05, 1.0, 37.0, 399.0, 401.0, 5000.0])
    found = law(np.tile(mean, (len(kappa), 1)), kappa).log_prob(value)
    expected = [vonmises_fisher(mean, each).logpdf(value) for each in kappa]
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


def test_a_fit_writes_the_program_of_its_own_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the file and the command, with a prior of the user's own and in other units."""
    monkeypatch.chdir(tmp_path)
    x = POINTS * 40 + 7
    prior = {"loc": dist.Normal(0.1, 3.0)}
    how: dict[str, Any] = {"covariance": "diagonal", "weights": "dirichlet", "components": 2, "engine": "em"}
    fit = probam.fit(x, standardise=True, prior=prior, restarts=1, **how)
    fit.save("fit.nc")
    assert main(["export", "fit.nc", "-o", "model.py"]) == 0
    text = Path("model.py").read_text()
    assert text == fit.to_numpyro()
    program = run(text, tmp_path)
    site = {name: np.asarray(value) for name, value in fit.reference.items()}
    total, _ = log_density(program["model"], (program["in_model_units"](x),), {}, site)
    np.testing.assert_allclose(total, ours(fit.model, fit.standardiser.apply(x), fit.reference), rtol=1e-10)
    weighted, _ = log_density(program["model"], (program["in_model_units"](x), np.full(len(x), 2.0)), {}, site)
    prior_alone, _ = log_density(fit.model.parameters, (), {}, fit.reference)
    np.testing.assert_allclose(weighted - total, total - prior_alone, rtol=1e-9)


def test_names_of_columns_are_data_and_not_code(tmp_path: Path) -> None:
    model, x = model_of("vmf", None, "uniform")
    names = ('"""; raise SystemExit', "'] + [1 / 0] + ['", "a\nb")
    text = program_text(model, names, identity(3, x.dtype), normalised=True, is_double=True)
    program = run(text, tmp_path)
    assert tuple(program["COLUMNS"]) == names
    np.testing.assert_allclose(program["in_model_units"](3 * SPHERE), SPHERE, rtol=1e-14)


@pytest.mark.parametrize(
    ("family", "others", "said"),
    [
        ("levy", {}, "memories of family 'levy' have a distribution of probam's or of your own"),
        ("bernoulli,values=spin", {}, "has the values 0 and 1"),
        ("gaussian", {"prior": {"loc": probam.families()["laplace"]().prior(POINTS)["loc"]}}, ""),
    ],
)
def test_what_cannot_be_written_is_named(family: str, others: dict[str, Any], said: str) -> None:
    x = np.sign(POINTS) if "spin" in family else POINTS
    model = mixture(x, family=find_family(family), weights=weight_prior("uniform"), num_components=2, **others)
    if said:
        with pytest.raises(InputError, match=said):
            text_of(model, x)
    else:
        assert "dist.Laplace(" in text_of(model, x)


def test_gaps_are_refused() -> None:
    x = POINTS.copy()
    x[0, 0] = np.nan
    model = mixture(x, family=find_family("gaussian", "full"), weights=weight_prior("dp"), num_components=2)
    with pytest.raises(InputError, match="NumPyro's mixtures do not integrate them out"):
        text_of(model, x)
