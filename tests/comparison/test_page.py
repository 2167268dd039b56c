"""The page that compares fits: what it says is what its parts say, and what cannot be compared is refused."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import arviz_stats
import numpy as np
import pytest
import xarray as xr

import probam
from probam.comparison.compare import compare, same_data
from probam.errors import InputError
from probam.fits.fitted import Fit
from probam.reports.page import with_error
from tests.comparison.exact_fits import one_memory


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # ArviZ's own
def test_the_difference_is_that_of_arviz(fits: Mapping[str, Fit], tmp_path: Path) -> None:
    both = {name: fits[name] for name in ("wide", "right")}
    path = tmp_path / "both.html"
    probam.compare_report(both, path)
    page = path.read_text(encoding="utf-8")
    stats: Any = arviz_stats
    expected = stats.compare({name: fit.tree for name, fit in both.items()}, var_name="x")
    frame = compare(both)
    gap, error = (float(frame[column].to_dict()["wide"]) for column in ("elpd_diff", "elpd_diff_se"))
    np.testing.assert_allclose(-gap, abs(expected.loc["wide", "elpd_diff"]), rtol=0.02, atol=0.02)
    np.testing.assert_allclose(error, expected.loc["wide", "dse"], rtol=0.05)
    assert with_error(gap, error, 5) in page


def test_fits_of_other_data_are_refused(fits: Mapping[str, Fit], tmp_path: Path) -> None:
    other = Fit(fits["right"].tree.copy(), fits["right"].model)
    observed = other.tree["observed_data"].to_dataset().copy(deep=True)
    observed["x"][3] += 1
    other.tree["observed_data"] = xr.DataTree(observed)
    path = tmp_path / "page.html"
    with pytest.raises(
        InputError, match=r"^fits: 'fit 1' and 'fit 2' are fits of different data \(30 rows and 30 rows\)"
    ):
        probam.compare_report([fits["right"], other], path)
    with pytest.raises(InputError, match=r"^fits: expected 2 to 12 to compare on a page; got 1; Fit\.report writes"):
        probam.compare_report([fits["right"]], path)
    with pytest.raises(InputError, match=r"^fits: expected 2 to 12 .*; got 13; probam\.compare makes a table"):
        probam.compare_report([fits["right"]] * 13, path)
    with pytest.raises(InputError, match=r"^labels: expected one for each of 30 fitted data; got 3$"):
        probam.compare_report([fits["right"], fits["wide"]], path, labels=[1, 2, 2])
    assert not path.exists()


def test_rows_in_single_precision_are_the_same_rows() -> None:
    double, single, other = (one_memory(1.0, 2.0) for _ in range(3))
    for fit, shift in ((single, 0.0), (other, 1e-3)):
        observed = fit.tree["observed_data"].to_dataset()
        fit.tree["observed_data"] = xr.DataTree(observed.assign(x=(observed["x"] + shift).astype(np.float32)))
    assert same_data([double, single])
    assert not same_data([double, other])
