"""A point estimate says what it is in every place: what was maximised, and the log likelihood there."""

import contextlib
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

import probam
from probam.cli.main import main
from probam.cli.results import fit_text
from probam.data.shipped import load_shipped
from probam.reports.summaries.estimate import NOT_A_COUNT
from tests.cli.conftest import QUICK, Refusal

MAP = "Maximum a posteriori under the default prior, log likelihood {:.2f} nats"
ML = "Maximum likelihood, log likelihood {:.2f} nats"


def log_likelihood(path: Path) -> float:
    """Of Old Faithful at a saved fit of isotropic memories, by SciPy's densities."""
    tree = probam.load(path).tree["posterior"].to_dataset().isel(chain=0, draw=0)
    densities = [
        np.log(weight)
        + stats.multivariate_normal.logpdf(load_shipped("faithful").values, loc, 0.5 / float(tree["beta"]))
        for weight, loc in zip(tree["weights"].values, tree["loc"].values, strict=True)
        if weight > 0
    ]
    return float(logsumexp(densities, axis=0).sum())


def printed(*words: str) -> str:
    """What a command writes to stdout."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main(words) == 0
    return out.getvalue()


@pytest.fixture(scope="module")
def maximum_likelihood(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What ``probam fit --estimate ml`` prints, and its file."""
    path = tmp_path_factory.mktemp("fits") / "ml.nc"
    words = ("--weights", "dirichlet", "--estimate", "ml")
    return printed("fit", "faithful", *QUICK, *words, "-o", str(path)), path


def test_the_first_line_names_what_was_maximised_and_the_log_likelihood(
    record: dict[str, Any], saved: Path, maximum_likelihood: tuple[str, Path], tmp_path: Path
) -> None:
    text, ml_path = maximum_likelihood
    for path, headline in ((saved, MAP), (ml_path, ML)):
        headline = headline.format(log_likelihood(path))
        fitted = probam.load(path)
        assert fit_text(fitted, path).startswith(f"{headline}\n")
        assert fitted.summary_text().startswith(f"{headline}\n")
        assert repr(fitted).startswith(f"<probam.Fit: {headline};")
        fitted.report(tmp_path / "report.html")
        page = (tmp_path / "report.html").read_text()
        lead = re.search(r'<p class="lead">([^<]*)</p>', page).group(1)  # type: ignore[union-attr]
        assert lead == f"{headline}.".replace(" -", " −")
    assert text.startswith(ML.format(log_likelihood(ml_path)))
    assert list(record)[:2] == ["estimate", "log_likelihood"]
    assert record["estimate"] == "maximum a posteriori under the default prior"
    np.testing.assert_allclose(record["log_likelihood"], log_likelihood(saved), rtol=1e-9)


def test_compare_begins_with_what_each_fit_is_and_says_where_bic_was_taken(
    maximum_likelihood: tuple[str, Path], tmp_path: Path
) -> None:
    own_prior = tmp_path / "map.nc"
    printed("fit", "faithful", *QUICK, "--weights", "dirichlet", "-o", str(own_prior))
    paths = [str(path) for path in (maximum_likelihood[1], own_prior)]
    lines = printed("compare", *paths).splitlines()
    assert f"ml: {ML[:1].lower()}{ML[1:]}".format(log_likelihood(maximum_likelihood[1])) in lines[:2]
    assert f"map: {MAP[:1].lower()}{MAP[1:]}".format(log_likelihood(own_prior)) in lines[:2]
    note = (
        "BIC and ICL are taken at: maximum a posteriori under the default prior; they are meant for maximum likelihood"
    )
    assert [line for line in lines if "BIC and ICL" in line] == [f"map: {note}"]
    fits = json.loads(printed("compare", *paths, "--json"))["fits"]
    assert {name: row["estimate"] for name, row in fits.items()} == {
        "ml": "maximum likelihood",
        "map": "maximum a posteriori under the default prior",
    }


def test_under_a_process_the_number_of_memories_is_called_an_upper_bound(
    record: dict[str, Any], saved: Path, maximum_likelihood: tuple[str, Path], tmp_path: Path
) -> None:
    fitted = probam.load(saved)
    number = int(fitted.tree["invariant"]["num_occupied"].item())
    assert f"memories that hold data: at most {number}. {NOT_A_COUNT}" in fitted.summary_text()
    assert record["memories_that_hold_data"] == {"mean": number, "upper_bound": True}
    fitted.report(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    for words in (
        f"memories hold the 272 data at the point estimate. {NOT_A_COUNT}",
        f"at most {number} of 5 memories hold data. {NOT_A_COUNT}",
        "memories that hold data (upper bound)",
        f"The point estimate uses at most {number} of the 5 memories.",
    ):
        assert words in page
    assert f"fit: memories: {NOT_A_COUNT}" in printed("compare", str(saved))
    labels = printed("predict", str(saved), "faithful", "-o", str(tmp_path / "labels.csv"))
    assert re.match(r"272 data in at most \d memories", labels)
    text, path = maximum_likelihood
    for where in (text, printed("compare", str(path))):
        assert "upper bound" not in where
    assert "memories that hold data: 5\n" in text


def test_the_co_clustering_of_a_point_estimate_is_made_of_responsibilities(saved: Path) -> None:
    fitted = probam.load(saved)
    partition = fitted.tree["partition"].to_dataset()
    shares = fitted.responsibilities(load_shipped("faithful"))[partition["row"].values]
    together = shares @ shares.T
    np.fill_diagonal(together, 1)
    np.testing.assert_allclose(partition["coclustering"], together, atol=1e-6)
    assert np.mean((together > 0.01) & (together < 0.99)) > 0.1
    labels = partition["point"].values
    same = labels[:, None] == labels
    assert together[same].mean() > 0.5 > together[~same].mean()
    sizes = np.bincount(shares.argmax(axis=1), minlength=5)
    np.testing.assert_array_equal(fitted.memories()["size"], sizes)
    assert fitted.tree["invariant"]["num_occupied"].item() == np.sum(sizes > 0)


def test_a_weighted_datum_counts_as_often_in_the_log_likelihood() -> None:
    x = load_shipped("faithful").values[:60]
    weight = np.resize([0.0, 1.0, 2.0], 60)
    how: dict[str, Any] = {
        "engine": "em",
        "covariance": "isotropic",
        "weights": "uniform",
        "components": 2,
        "restarts": 2,
    }
    fitted = probam.fit(x, sample_weight=weight, standardise=True, **how)
    assert repr(fitted).startswith(f"<probam.Fit: {MAP.format(weight @ fitted.log_prob(x))};")
    assert "sample_weight" not in fitted.options


def test_help_says_what_em_maximises(capsys: pytest.CaptureFixture[str], refusal: Refusal) -> None:
    main(["fit", "--help"])
    words = " ".join(re.sub(r"[│\s]+", " ", capsys.readouterr().out).split())
    assert "the maximum a posteriori under the default prior" in words
    assert "--estimate" in words
    assert "ml the likelihood alone" in words
    assert "estimate: only engine 'em' has a choice; got 'ml' with the default engine; leave it out" in refusal(
        "fit", "faithful", "--estimate", "ml"
    )
    assert "estimate: expected one of map, ml; got 'mle'" in refusal("fit", "faithful", "--estimate", "mle")
