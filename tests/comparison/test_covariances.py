"""The shape of the covariance and the number of memories, by criteria."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import integrate, stats
from scipy.special import logsumexp
from sklearn.mixture import GaussianMixture

from probam.comparison.covariances import (
    MCLUST,
    SHAPES,
    Choice,
    Selection,
    compare_covariances,
    selection_record,
    selection_text,
)
from probam.comparison.scores_page import write_selection
from probam.data.shipped import load_shipped
from probam.errors import InputError
from probam.inference.common.coordinates import free_parameters
from probam.models.gaussian import Gaussian
from probam.models.mixture import mixture
from probam.models.weights import weight_prior

PEERS = Path(__file__).resolve().parents[3] / "shared" / "data" / "peer_numbers_ship" / "mclust.json"
OF_SKLEARN = {"spherical": "spherical", "diagonal": "diag", "tied": "tied", "full": "full"}


def groups() -> np.ndarray:
    """Two groups that lie so far apart that the likelihood has one maximum that every start finds."""
    rng = np.random.default_rng(2)
    return np.concatenate([rng.normal(0, [1.0, 2.0], (50, 2)), rng.normal(0, [2.0, 0.5], (30, 2)) + 30])


def numbers(selection: Selection, shape: str, count: int) -> dict[str, Any]:
    """The row of a model."""
    rows: list[dict[str, Any]] = selection.table.reset_index().to_dict(orient="records")  # type: ignore[assignment]
    return next(row for row in rows if (row["covariance"], row["components"]) == (shape, count))


@pytest.fixture(scope="module")
def selection() -> Selection:
    return compare_covariances(groups(), SHAPES, [2])


def test_parameters_are_counted_as_the_table_of_shapes_counts_them() -> None:
    num_features, num_memories = 3, 4
    x = np.random.default_rng(0).normal(size=(20, num_features))
    triangle = num_features * (num_features + 1) // 2
    own = {
        "isotropic": 1,
        "spherical": num_memories,
        "diagonal": num_memories * num_features,
        "tied": triangle,
        "full": num_memories * triangle,
    }
    assert list(own) == list(SHAPES)
    for shape, expected in own.items():
        weights = weight_prior("dirichlet")
        model = mixture(x, family=Gaussian(shape), weights=weights, num_components=num_memories)
        count = free_parameters(model)
        assert count == num_memories - 1 + num_memories * num_features + expected
        if shape in OF_SKLEARN:
            peer = GaussianMixture(num_memories, covariance_type=OF_SKLEARN[shape]).fit(x)
            assert count == peer._n_parameters()


@pytest.mark.parametrize("shape", OF_SKLEARN)
def test_bic_and_icl_are_those_of_scikit_learn_at_the_same_maximum(selection: Selection, shape: str) -> None:
    x = groups()
    peer = GaussianMixture(2, covariance_type=OF_SKLEARN[shape], tol=1e-12, max_iter=1000, reg_covar=0, random_state=0)
    peer.fit(x)
    row = numbers(selection, shape, 2)
    np.testing.assert_allclose(row["bic"], peer.bic(x), rtol=1e-7)
    icl = peer.bic(x) - 2 * np.log(peer.predict_proba(x).max(axis=1)).sum()
    np.testing.assert_allclose(row["icl"], icl, rtol=1e-7)
    np.testing.assert_allclose(row["log_lik"], peer.score(x) * len(x), rtol=1e-7)


def test_one_width_for_all_is_the_pooled_variance_of_groups_far_apart(selection: Selection) -> None:
    """Responsibilities are 0 or 1, and the maximum is known in closed form."""
    parts = groups()[:50], groups()[50:]
    scatter = sum(((part - part.mean(axis=0)) ** 2).sum() for part in parts)
    variance = scatter / (2 * 80)
    log_lik = -0.5 * 2 * 80 * (np.log(2 * np.pi * variance) + 1) + 50 * np.log(50 / 80) + 30 * np.log(30 / 80)
    row = numbers(selection, "isotropic", 2)
    np.testing.assert_allclose(row["log_lik"], log_lik, rtol=1e-9)
    np.testing.assert_allclose(row["bic"], (1 + 4 + 1) * np.log(80) - 2 * log_lik, rtol=1e-9)


def test_the_best_model_is_saved_and_told_in_text_json_and_on_a_page(selection: Selection, tmp_path: Path) -> None:
    assert selection.best == {"bic": Choice("diagonal", 2), "icl": Choice("diagonal", 2)}
    assert selection.chosen.tree.attrs["estimate"] == "maximum likelihood"
    assert json.loads(str(selection.chosen.tree.attrs["family_options"])) == {"covariance": "diagonal"}
    text = selection_text(selection)
    value = f"{numbers(selection, 'diagonal', 2)['bic']:.1f}"
    assert f"diagonal (VVI) *{value} " in " ".join(text.split())
    assert "BIC chooses diagonal, 2; ICL chooses diagonal, 2" in text
    record = json.loads(json.dumps(selection_record(selection), allow_nan=False))
    assert record["best"]["bic"] == {"covariance": "diagonal", "components": 2}
    assert [model["covariance"] for model in record["models"]] == list(SHAPES)
    assert record["models"][0]["elpd_loo"] is None
    write_selection(selection, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "BIC chooses diagonal covariance, two memories</strong>; next is full, 2, higher by " in page
    assert f"<strong>{value}</strong>" in page


def test_a_memory_on_equal_rows_has_no_maximum_and_is_not_chosen() -> None:
    x = np.concatenate([np.random.default_rng(1).normal(size=(30, 2)), np.full((6, 2), 8.0)])
    found = compare_covariances(x, ["isotropic", "spherical"], [2])
    row = numbers(found, "spherical", 2)
    assert row["log_lik"] > numbers(found, "isotropic", 2)["log_lik"]
    assert np.isnan(row["bic"])
    assert "as narrow as maximum likelihood is let" in row["note"]
    assert found.best["bic"] == Choice("isotropic", 2)
    assert "spherical 2: a memory is as narrow" in selection_text(found)


def test_leave_one_out_and_evidence_are_those_of_the_posterior() -> None:
    """One memory in one dimension: the evidence is an integral over its place and width."""
    x = np.random.default_rng(3).normal(5.0, 2.0, (25, 1))
    found = compare_covariances(x, ["isotropic"], [1], criteria=["loo", "evidence"])
    row = numbers(found, "isotropic", 1)
    prior: Any = Gaussian("isotropic").prior(x)
    place_law = prior["loc"].base_dist
    mean, spread = (float(np.ravel(value)[0]) for value in (place_law.loc, place_law.scale))
    shape, rate = float(prior["beta"].concentration), float(prior["beta"].rate)

    def joint(place: float, beta: float) -> float:
        log_lik = stats.norm.logpdf(x, place, (2 * beta) ** -0.5).sum()
        log_prior = stats.norm.logpdf(place, mean, spread) + stats.gamma.logpdf(beta, shape, scale=1 / rate)
        return float(np.exp(log_lik + log_prior + 60))

    inside = integrate.dblquad(joint, 1e-4, 1.0, x.mean() - 3, x.mean() + 3, epsabs=0, epsrel=1e-6)[0]
    assert abs(row["log_evidence"] - (np.log(inside) - 60)) < 5 * row["evidence_se"] + 1e-3
    assert found.chosen.tree.attrs["engine"] == "gibbs"
    draws = np.asarray(found.chosen.tree["log_likelihood"]["x"]).reshape(-1, len(x))
    naive = -(logsumexp(-draws, axis=0) - np.log(len(draws))).sum()  # importance sampling without smoothing
    assert abs(row["elpd_loo"] - naive) < 0.2
    assert np.isfinite(row["bic"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"covariances": ["round"]}, "^covariances: expected one of isotropic, .*, full; got 'round'$"),
        ({"covariances": "full"}, "^covariances: expected a list of names; got 'full'; write"),
        ({"covariances": []}, "^covariances: expected at least one of isotropic"),
        ({"components": [0]}, "^components: expected a number of memories of at least 1; got 0$"),
        ({"components": []}, "^components: expected at least one number of memories; got none$"),
        ({"criteria": ["aic"]}, "^criteria: expected one of bic, icl, loo, evidence; got 'aic'$"),
        ({"shortlist": 0}, "^shortlist: expected a number of models of at least 1; got 0$"),
        ({"engine": "nuts"}, "^engine: compare_covariances has no such option; it has standardise, "),
    ],
)
def test_what_cannot_be_chosen_from_is_refused_by_name(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        compare_covariances(groups(), **options)  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_choice_for_faithful_is_mclusts_and_no_maximum_is_below_its() -> None:
    """mclust 6 chooses EEE with three components, of BIC -2314.3163."""
    found = compare_covariances(load_shipped("faithful"), SHAPES, range(1, 6))
    assert found.best["bic"] == Choice("tied", 3)
    chosen = numbers(found, "tied", 3)
    assert chosen["num_free"] == 11
    np.testing.assert_allclose(-chosen["bic"], -2314.3163, atol=0.03)
    if not PEERS.exists():
        return
    table = next(each for each in json.loads(PEERS.read_text()) if each["name"] == "faithful")["BICtable"]
    for shape in SHAPES:
        theirs = table[MCLUST[shape]]
        for count in range(1, 6):
            assert -numbers(found, shape, count)["bic"] > theirs[count - 1] - 2e-3, (shape, count)
        np.testing.assert_allclose(-numbers(found, shape, 1)["bic"], theirs[0], atol=1e-3)
