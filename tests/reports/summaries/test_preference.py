"""Which fit is preferred, from tables whose answer is known."""

import numpy as np
import pandas as pd
import pytest

from probam.reports.summaries.preference import preference


def scores(**fits: tuple[float, float, float, float]) -> pd.DataFrame:
    """A table of leave-one-out, difference, its error, and BIC."""
    frame = pd.DataFrame.from_dict(fits, orient="index", columns=["elpd_loo", "elpd_diff", "elpd_diff_se", "bic"])
    return frame.assign(bad_k=0)


NONE = np.nan


@pytest.mark.parametrize(
    ("gap", "error", "said"),
    [
        (50.0, 10.0, "b is clearly better than a: .* higher by 50 ± 10 nats, 5 standard errors"),
        (30.0, 10.0, "b is probably better than a: .* higher by 30 ± 10 nats, 3 standard errors"),
        (15.0, 10.0, "No fit is preferred: b and a predict new rows equally well"),
        (3.0, 0.1, "No fit is preferred: b and a predict new rows equally well"),  # small, however sure
        (0.0, 0.0, "No fit is preferred: b and a predict new rows equally well"),  # the same fit twice
    ],
)
def test_a_difference_counts_in_nats_and_in_standard_errors(gap: float, error: float, said: str) -> None:
    frame = scores(a=(-100.0 - gap, -gap, error, NONE), b=(-100.0, 0.0, 0.0, NONE))
    if gap == 0:
        frame = frame.loc[["b", "a"]]
    assert pd.Series(preference(frame)[:1]).str.match(said).all(), preference(frame)


def test_of_several_fits_those_that_cannot_be_told_from_the_best_are_named() -> None:
    frame = scores(a=(-103.0, -3.0, 5.0, NONE), b=(-100.0, 0.0, 0.0, NONE), c=(-150.0, -50.0, 5.0, NONE))
    assert preference(frame)[0].startswith("No fit is preferred: b and a predict new rows equally well")
    frame = scores(a=(-130.0, -30.0, 5.0, NONE), b=(-100.0, 0.0, 0.0, NONE), c=(-150.0, -50.0, 5.0, NONE))
    assert preference(frame)[0].startswith("b is clearly better than a, the next best: ")


def test_a_point_estimate_is_placed_by_bic_and_only_among_its_like() -> None:
    frame = scores(a=(NONE, NONE, NONE, 100.0), b=(NONE, NONE, NONE, 112.0))
    assert preference(frame)[0] == "a is clearly better than b: its BIC is lower by 12 (10 is clear)."
    frame = scores(a=(NONE, NONE, NONE, 107.0), b=(NONE, NONE, NONE, 100.0))
    assert preference(frame)[0] == "b is probably better than a: its BIC is lower by 7 (10 is clear)."
    frame = scores(a=(NONE, NONE, NONE, 100.0), b=(NONE, NONE, NONE, 105.0))
    assert preference(frame)[0] == "No fit is preferred: BIC does not tell a and b apart."
    frame = scores(a=(NONE, NONE, NONE, 100.0), b=(-50.0, 0.0, 0.0, NONE))
    assert preference(frame)[0].endswith("leave-one-out is known of b, BIC of a.")
    frame = scores(a=(NONE, NONE, NONE, 1.0), b=(-50.0, 0.0, 0.0, NONE), c=(-90.0, -40.0, 1.0, NONE))
    assert preference(frame)[-1] == "a cannot be placed by leave-one-out, which needs posterior draws."


def test_rows_at_which_leave_one_out_fails_are_told() -> None:
    frame = scores(a=(-150.0, -50.0, 5.0, NONE), b=(-100.0, 0.0, 0.0, NONE)).assign(bad_k=[0, 3])
    assert "unreliable at 3 rows" in preference(frame)[-1]
