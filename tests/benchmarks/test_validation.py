"""What the validation command writes; slow tests run the engines themselves."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.validation import PROBLEMS, Row, main, replace_between, run_all, slow_table, tables, verdict
from probam.errors import InputError
from probam.reports.summaries.ranks import rank_dataset

JUNIT = """<testsuites><testsuite>
<testcase classname="tests.inference.test_gibbs" name="test_geweke[a b]" time="3.5"/>
<testcase classname="tests.inference.test_gibbs" name="test_geweke[c]" time="2.6"><failure message="no"/></testcase>
<testcase classname="tests.inference.test_cavi" name="test_bound" time="1"><skipped message="later"/></testcase>
</testsuite></testsuites>"""


def test_tables_say_what_the_figures_are_and_why_there_are_none() -> None:
    rng = np.random.default_rng(0)
    draws = [{"log_lik": rng.normal(size=99), "alpha": rng.normal(size=99)} for _ in range(60)]
    truths = [{"log_lik": float(rng.normal()), "alpha": float(rng.normal()) + 3} for _ in range(60)]
    figures = rank_dataset(truths, draws).assign_attrs(options="thin=3", failed=2, seconds=7.0)
    text = tables(
        [Row("nuts", "dp", figures, ""), Row("svi", "dp", figures, ""), Row("cavi", "dp", None, "no factors")]
    )
    p = figures.sel(quantity="log_lik")
    assert f"| log likelihood | {float(p['p_ecdf']):.3f} | {float(p['distance']):.2f} |" in text
    assert "**nuts** (thin=3): fails. 60 simulations, 2 more failed, 99 ranked draws, 7 s." in text
    assert "**svi** (thin=3): an approximation: 1 of 2 quantities miscalibrated." in text
    assert "**cavi**: not run (no factors)." in text
    assert verdict("gibbs", figures.sel(quantity=["log_lik"])) == "passes"


def test_slow_results_are_listed_by_test(tmp_path: Path) -> None:
    (tmp_path / "slow.xml").write_text(JUNIT, encoding="utf-8")
    assert slow_table(tmp_path / "slow.xml").splitlines()[2:] == [
        "| `tests/inference/test_cavi.py` | `test_bound` | 1 skipped | 1 |",
        "| `tests/inference/test_gibbs.py` | `test_geweke` | 1 passed, 1 failed | 6 |",
    ]
    with pytest.raises(InputError, match="expected results of pytest --junitxml"):
        slow_table(tmp_path / "none.xml")


def test_only_what_stands_between_the_marks_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    with pytest.raises(InputError, match="expected a file with the lines"):
        replace_between(page, "calibration", "new")
    page.write_text("before\n<!-- calibration -->\nold\n<!-- end of calibration -->\nafter\n", encoding="utf-8")
    for text in ("first", "second"):
        replace_between(page, "calibration", text)
    expected = "before\n<!-- calibration -->\n\nsecond\n\n<!-- end of calibration -->\nafter\n"
    assert page.read_text(encoding="utf-8") == expected
    with pytest.raises(InputError, match="slow tests"):
        replace_between(page, "slow tests", "new")
    assert page.read_text(encoding="utf-8") == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gibbs", "gibbs collapsed", "nuts"])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_exact_engines_are_calibrated(name: str, problem: str) -> None:
    """Seventy simulations each; a false alarm once in a hundred runs of an engine on a problem."""
    assert main(["--engines", name, "--problems", problem, "--simulations", "70", "--seed", "11"]) == 0


@pytest.mark.slow
def test_mean_field_svi_is_seen_to_be_miscalibrated() -> None:
    """Its draws of the weights are too narrow: the harness that passes NUTS does not pass it."""
    (row,) = run_all(["svi"], ["finite"], 150, 5)
    assert row.figures is not None
    assert "miscalibrated" in verdict("svi", row.figures)
    assert (row.figures["p_ecdf"].values < 0.001).any()
