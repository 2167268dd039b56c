"""One model by several engines, a stream among them, on the same rows."""

from pathlib import Path
from typing import Any

import numpy as np
import numpyro.distributions as dist
import pytest

import probam
from probam.comparison.compare import comparison_record, comparison_text
from probam.comparison.engines import LEARNERS, compare_engines, engine_names, stream_options
from probam.comparison.scores_page import write_scores
from probam.comparison.splits import split
from probam.errors import InputError


def test_a_stream_is_a_row_on_the_same_rows_and_an_engine_that_refuses_says_why(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    truth = np.arange(60) % 2
    x = np.where(truth[:, None] == 0, -3.0, 3.0) + rng.normal(size=(60, 2))
    model: dict[str, Any] = {"covariance": "isotropic", "components": 5}
    frame, fits = compare_engines(x, ("em", "clam", "stream"), held_out=0.25, labels=truth, seed=3, **model)
    assert set(fits) == {"em", "stream"}
    assert list(frame.index)[-1] == "clam"
    rows, others = split(60, 0.25, 3)
    by_hand = probam.Stream(covariance="isotropic", learn_alpha=True, seed=3).partial_fit(x[rows]).to_fit()
    np.testing.assert_array_equal(fits["stream"].tree["observed_data"]["x"].values, x[rows])
    scores = frame["log_score"].to_dict()
    np.testing.assert_allclose(scores["stream"], by_hand.log_prob(x[others]).mean(), rtol=1e-12)
    assert frame["ari"].to_dict()["stream"] == 1.0
    assert np.isfinite(frame["elpd_loo"].to_dict()["stream"])
    why = str(frame["estimate"].to_dict()["clam"])
    assert why.startswith("not fitted: ")
    assert "equal weights" in why
    assert f"\nclam: {why}\n" in comparison_text(frame)
    assert comparison_record(frame)["fits"]["clam"]["log_score"] is None
    assert "in another order" in frame.attrs["notes"]["stream"][0]
    write_scores(frame, fits, tmp_path / "page.html", subject="two groups")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Comparison: two groups" in page
    assert "Partitions side by side" in page
    assert page.count("equal weights") == 1


def test_all_stands_for_every_engine_and_the_stream() -> None:
    assert engine_names("all") == list(LEARNERS)
    assert engine_names(["nuts", "em", "nuts"]) == ["nuts", "em"]
    with pytest.raises(InputError, match=r"^engines: expected one of em, .*, smc, stream; got 'emm'$"):
        engine_names(["em", "emm"])


def test_a_stream_learns_the_process_that_the_fit_learns() -> None:
    same = {"family": "gaussian", "covariance": "full", "standardise": True}
    assert stream_options({**same, "components": 20}) == {"covariance": "full", "standardise": True} | {
        "learn_alpha": True
    }
    assert stream_options({"alpha": 2.0}) == {"alpha": 2.0}
    assert stream_options({"alpha": dist.Gamma(2.0, 4.0)}) == {"learn_alpha": (2.0, 4.0)}
    assert stream_options({"weights": "pyp"}) == {"learn_discount": True}
    assert stream_options({"weights": "pyp", "alpha": 1.0, "discount": 0.3}) == {"alpha": 1.0, "discount": 0.3}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": "dirichlet", "components": 3}, "^weights: a stream makes memories as data require"),
        ({"missing": True}, "^missing: a stream has no such option"),
        ({"num_particles": 100}, "^num_particles: a stream has no such option"),
        ({"weights": "pyp", "discount": 0.3}, "^discount: a stream learns alpha and the discount both, or neither"),
        ({"weights": "pyp", "discount": dist.Beta(1.0, 1.0)}, "^discount: give a stream a number"),
        ({"alpha": dist.LogNormal(0.0, 1.0)}, "^alpha: a stream learns it under a Gamma prior"),
    ],
)
def test_a_stream_says_which_part_of_a_model_it_does_not_take(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        stream_options(options)
