"""The command that puts fits side by side."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from probam.cli.main import main
from probam.fits.fit import load
from tests.cli.conftest import Refusal


@pytest.mark.usefixtures("here")
def test_fits_are_compared_and_the_better_one_comes_first(refusal: Refusal, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(4)
    x = np.concatenate([rng.normal(-5, 1, (60, 2)), rng.normal(5, 1, (60, 2))])
    rng.shuffle(x)
    frame = pd.DataFrame(x, columns=["a", "b"])
    frame[:90].to_csv("seen.csv", index=False)
    frame[90:].to_csv("apart.csv", index=False)
    pd.DataFrame({"kind": (x[90:, 0] > 0).astype(int)}).to_csv("kinds.csv", index=False)
    for name, number in (("one", "1"), ("two", "2")):
        given = ["--covariance", "isotropic", "--weights", "dirichlet", "--components", number, "--engine", "em"]
        assert main(["fit", "seen.csv", *given, "-o", f"{name}.nc"]) == 0
    capsys.readouterr()
    words = ["compare", "one.nc", "two.nc", "--held-out", "apart.csv", "--labels", "kinds.csv"]
    assert main([*words, "--json", "-o", "table.csv", "-o", "page.html"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert sorted(record) == ["fits", "notes"]
    rows = record["fits"]
    assert list(rows) == ["two", "one"]
    assert rows["two"]["ari"] == 1.0
    assert pd.read_csv("table.csv")["fit"].tolist() == ["two", "one"]
    assert "<strong>two has the highest score</strong>" in Path("page.html").read_text(encoding="utf-8")
    assert main(words) == 0
    assert "log_score" in capsys.readouterr().out
    assert "named twice" in refusal("compare", "one.nc", "one.nc")
    assert main(["report", "one.nc", "two.nc"]) == 0
    assert capsys.readouterr().out == "wrote comparison.html\n"
    assert "two is clearly better than one: its BIC is lower" in Path("comparison.html").read_text(encoding="utf-8")
    assert "named twice" in refusal("report", "one.nc", "one.nc", "-o", "twice.html")
    assert "ends in .csv, .html" in refusal("compare", "one.nc", "two.nc", "-o", "table.txt")
    assert "engines: expected one of em" in refusal("compare", "seen.csv", "--engines", "emm")
    assert "they need --engines" in refusal("compare", "one.nc", "two.nc", "--components", "3")


@pytest.mark.usefixtures("here")
def test_engines_are_compared_with_the_data_options_of_fit(
    refusal: Refusal, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(5)
    kind = np.arange(60) % 2
    directions = rng.normal(0, 0.1, (60, 2)) + np.where(kind[:, None] == 0, [1.0, 0.0], [0.0, 1.0])
    frame = pd.DataFrame(rng.lognormal(0, 2, (60, 1)) * directions, columns=["a", "b"])
    frame.assign(name="n", kind=np.where(kind == 0, "east", "north")).to_csv("rows.csv", index=False)
    words = ["compare", "rows.csv", "--engines", "em", "--family", "vmf", "--weights", "dirichlet", "--components", "2"]
    words += ["--drop", "name", "--normalise"]
    assert main([*words, "--labels", "kind", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert list(record["fits"]) == ["em"]
    assert record["fits"]["em"]["ari"] == 1.0
    assert np.isfinite(record["fits"]["em"]["log_score"])
    assert "rows.csv has no column 'sort'" in refusal(*words, "--labels", "sort")
    assert "'kind' holds text" in refusal(*words)
    said = refusal("compare", "one.nc", "two.nc", "--drop", "name", "--normalise")
    assert "--normalise, --drop: the model and what is read of DATA; they need --engines" in said


@pytest.mark.usefixtures("here")
def test_the_covariance_and_the_number_of_memories_are_chosen_in_one_call(
    refusal: Refusal, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(6)
    x = np.concatenate([rng.normal(0, [1, 9], (40, 2)), rng.normal(60, [1, 9], (20, 2))])
    pd.DataFrame(x, columns=["a", "b"]).assign(name="n").to_csv("rows.csv", index=False)
    words = ["compare", "rows.csv", "--covariances", "--drop", "name", "--components", "2"]
    assert main([*words, "--covariance", "isotropic,diagonal", "--json", "-o", "best.nc", "-o", "all.csv"]) == 0
    record = json.loads(capsys.readouterr().out)
    best = {"covariance": "diagonal", "components": 2}
    assert record["best"] == {"bic": best, "icl": best}
    assert pd.read_csv("all.csv")[["covariance", "components"]].to_numpy().tolist() == [
        [shape, count] for shape in ("isotropic", "diagonal") for count in (1, 2)
    ]
    saved = load("best.nc")
    assert saved.tree.attrs["estimate"] == "maximum likelihood"
    assert saved.model.num_components == 2
    assert "--labels, --engines: not with --covariances" in refusal(*words, "--labels", "name", "--engines", "em")
    assert "--family: --covariances chooses among Gaussian memories" in refusal(*words, "--family", "vmf")
    assert "covariances: expected one of isotropic" in refusal(*words, "--covariance", "round")
    assert "criteria: expected one of bic" in refusal(*words, "--criteria", "aic")
    assert "DATA: expected one with --covariances; got 2" in refusal("compare", "a", "b", "--covariances")
    assert "ends in .csv, .html, .nc" in refusal(*words, "-o", "table.txt")
