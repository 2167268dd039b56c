"""A new user's first hour: a table with text, gaps and labels, each refusal followed by its remedy."""

import contextlib
import io

import numpy as np
import pandas as pd
import pytest

from probam.cli.main import main

MODEL = ("--covariance", "diagonal", "--weights", "dirichlet", "--components", "2", "--engine", "em", "--restarts", "1")


def said(*words: str, code: int = 0) -> str:
    """What a command prints, on both streams; no traceback and no place in a source file is among it."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        assert main(words) == code
    text = out.getvalue() + err.getvalue()
    for never in ("Traceback", "Warning", ".py:", "defect"):
        assert never not in text
    return text


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_each_refusal_names_the_option_with_which_the_walk_goes_on() -> None:
    rng = np.random.default_rng(7)
    kind = np.arange(60) % 2
    table = pd.DataFrame(rng.normal(6 * kind[:, None], 1, (60, 3)), columns=["leaf width", "height", "mass"])
    table.insert(0, "who", [f"tree {row}" for row in range(60)])
    table["species"] = np.array(["oak", "ash"])[kind]
    table.loc[::7, "height"] = np.nan
    table.to_csv("trees.csv", index=False)
    fit = ["fit", "trees.csv", *MODEL]
    assert "column 'who' holds text" in said(*fit, code=2)
    assert "`--drop`" in said(*fit, "--drop", "who", code=2)
    fit += ["--drop", "who", "--labels", "species"]
    assert "`probam fit --missing`" in said(*fit, code=2)
    assert "adjusted Rand index 1.000" in said(*fit, "--missing")
    said("report", "fit.nc")
    assert "adjusted Rand index 1.000" in said("predict", "fit.nc", "trees.csv", "--labels", "species", "-o", "p.csv")
    refused = said("recall", "fit.nc", "trees.csv", "-o", "r.csv", code=2)
    assert "need whole rows: impute the values (`complete`" in refused
    assert "9 missing entries in 9 of 60 rows filled" in said("complete", "fit.nc", "trees.csv", "-o", "whole.csv")
    whole = pd.read_csv("whole.csv")
    given = table["height"].notna()
    np.testing.assert_allclose(whole["height"][given], table["height"][given])
    assert "60 of 60 queries converged, to 2 basins" in said("recall", "fit.nc", "whole.csv", "-o", "r.csv")
    assert "failed" not in said("verify", "fit.nc")
    stream = ["stream", "trees.csv", "--drop", "who,species", "-o", "s.nc"]
    assert "`probam fit --missing`" in said(*stream, code=2)
    assert "log likelihood" in said("compare", "fit.nc", "--held-out", "trees.csv", "--labels", "species")
