"""The page of a comparison."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from probam.reports.figures.scores import Scattered, score_of
from probam.reports.scores import scores_html
from tests.reports.browser import Open, cut_off, needs_browser

COLUMNS = (
    *("log_score", "log_score_se", "log_score_diff", "log_score_diff_se", "elpd_loo", "elpd_se", "elpd_diff"),
    *("elpd_diff_se", "bic", "icl", "log_evidence", "evidence_se", "memories", "attractors_per_memory", "ari", "nmi"),
    *("ari_recall", "seconds", "ess_per_second"),
)


@pytest.fixture
def frame() -> pd.DataFrame:
    """Three fits of which the second is within two errors of the first and the third is not; one engine refused."""
    rows = {
        "best": {"log_score": -1.0, "log_score_diff": 0.0, "log_score_diff_se": 0.0, "log_score_se": 0.3},
        "close <b>": {"log_score": -1.1, "log_score_diff": -0.1, "log_score_diff_se": 0.06, "log_score_se": 0.3},
        "far": {"log_score": -1.2, "log_score_diff": -0.2, "log_score_diff_se": 0.06, "log_score_se": 0.3},
    }
    frame = pd.DataFrame.from_dict(rows, orient="index").reindex(columns=list(COLUMNS))
    frame["memories"], frame["seconds"] = 3.0, [1.0, 20.0, 300.0]
    frame.insert(0, "engine", ["best", "gibbs", "nuts"])
    frame.insert(1, "estimate", "draws from the posterior")
    frame = frame.reindex([*frame.index, "clam"])
    frame["engine"] = frame["engine"].fillna("clam")
    frame["estimate"] = frame["estimate"].fillna("not fitted: its memories are <isotropic>")
    frame.attrs["notes"] = {"far": ["leave-one-out is unreliable at 3 data"]}
    return frame


@pytest.fixture
def html(frame: pd.DataFrame, posterior_tree: xr.DataTree) -> str:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 66)
    other = (labels + 1) % 3  # the same partition under other numbers
    names = ("best", "close <b>", "far")
    partitions = dict(zip(names, (labels, other, rng.integers(0, 2, 66)), strict=True))
    scattered = Scattered(rng.normal(size=(66, 2)), ("length", "width"), partitions)
    return scores_html(frame, dict.fromkeys(names, posterior_tree), scattered, subject="three fits")


def test_the_head_says_which_fits_the_held_out_rows_do_not_tell_from_the_best(html: str) -> None:
    verdict = html[html.index('<div class="verdict') : html.index("</header>")]
    assert "<strong>best has the highest score</strong>, −1 " in verdict
    assert "not told apart by these rows: close &lt;b&gt;." in verdict
    assert "far" not in verdict


def test_fits_that_were_refused_are_on_the_page_with_their_reason(html: str) -> None:
    assert "its memories are &lt;isotropic&gt;" in html
    assert html.count(">not fitted<") == 1, "in the picture"
    assert "<b>" not in html


def test_partitions_agree_whatever_their_numbers(html: str) -> None:
    section = html[html.index('id="partitions"') : html.index('id="notes"')]
    cells = section[section.index("<tbody>") :].split("<tr>")[1]
    assert cells.count("<td>1</td>") == 2
    dots = section.count("<use ")
    assert dots >= 3 * 66


def test_without_held_out_rows_leave_one_out_is_the_score_and_without_draws_there_is_none(frame: pd.DataFrame) -> None:
    frame["elpd_loo"] = frame["log_score"]
    assert (score := score_of(frame)) is not None
    assert score.column == "log_score"
    frame["log_score"] = np.nan
    assert (score := score_of(frame)) is not None
    assert score.column == "elpd_loo"
    frame["elpd_loo"] = np.nan
    assert score_of(frame) is None
    assert "no score to order the fits by" in scores_html(frame, {}, None, subject="none")


@needs_browser
@pytest.mark.parametrize("width", [360, 1440])
def test_the_page_of_a_comparison_is_quiet_and_whole(html: str, tmp_path: Path, open_page: Open, width: int) -> None:
    path = tmp_path / "page.html"
    path.write_text(html, encoding="utf-8")
    visit = open_page(path, width=width)
    assert visit.complaints == []
    assert visit.requests == [path.as_uri()]
    assert cut_off(visit.page) == []
