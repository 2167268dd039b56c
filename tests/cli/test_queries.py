"""Commands that question a saved fit."""

import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import probam
from probam.cli.arguments import labels_of_fitted
from probam.cli.main import main
from probam.data.shipped import load_shipped
from probam.errors import InputError
from probam.reports.tree import variable
from tests.cli.conftest import Refusal


def test_predictions_follow_the_columns_by_name(saved: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = load_shipped("faithful").frame()
    frame.insert(0, "day", "monday")
    frame[["day", "waiting", "eruptions"]].to_csv("swapped.csv", index=False)
    for data, out in (("faithful", "a.csv"), ("swapped.csv", "b.csv")):
        assert main(["predict", str(saved), data, "-o", out]) == 0
    a, b = pd.read_csv("a.csv"), pd.read_csv("b.csv")
    pd.testing.assert_frame_equal(a, b)
    assert list(a) == ["row", "label", "confidence", "log_density"]
    assert len(a) == 272
    assert "272 data in" in capsys.readouterr().out
    assert main(["predict", str(saved), "faithful", "--all", "-o", "p.parquet"]) == 0
    p = pd.read_parquet("p.parquet").filter(like="responsibilities").to_numpy()
    np.testing.assert_allclose(p.sum(axis=1), 1.0, rtol=1e-9)
    np.testing.assert_array_equal(p.argmax(axis=1), a["label"])
    assert (here / "p.parquet").is_file()


def test_recalled_points_rest_where_the_energy_is_flat(
    saved: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pd.DataFrame({"eruptions": [2.0, 4.4, 3.1], "waiting": [55.0, 80.0, 70.0]}).to_csv("cues.csv", index=False)
    assert main(["recall", str(saved), "cues.csv", "-o", "once.csv"]) == 0
    assert main(["recall", str(saved), "once.csv", "-o", "twice.csv"]) == 0
    once, twice = pd.read_csv("once.csv"), pd.read_csv("twice.csv")
    assert {"eruptions", "waiting", "steps", "residual", "energy", "converged", "basin"} <= set(once)
    assert once["converged"].all()
    np.testing.assert_allclose(twice[["eruptions", "waiting"]], once[["eruptions", "waiting"]], atol=1e-3)
    np.testing.assert_array_equal(twice["basin"], once["basin"])
    assert "3 of 3 queries converged" in capsys.readouterr().out
    assert main(["recall", str(saved), "cues.csv", "--max-steps", "1", "--step", "0.1", "-o", "short.npz"]) == 0
    assert "did not converge within 1 steps" in capsys.readouterr().out
    assert (here / "short.npz").is_file()


def test_a_fit_of_rows_with_gaps_answers_its_own_training_file(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = load_shipped("faithful").frame()
    frame.loc[::7, "waiting"] = np.nan
    frame.to_csv("gaps.csv")  # with an index, which pandas writes without a name
    model = ["--weights", "dirichlet", "--components", "2", "--engine", "em"]
    assert main(["fit", "gaps.csv", "--missing", *model, "-o", "gaps.nc"]) == 0
    assert main(["predict", "gaps.nc", "gaps.csv", "-o", "all.csv"]) == 0
    frame.iloc[:1].to_csv("one.csv", index=False)
    assert main(["predict", "gaps.nc", "one.csv", "-o", "first.csv"]) == 0
    assert main(["complete", "gaps.nc", "one.csv", "-o", "whole.csv"]) == 0
    printed = capsys.readouterr()
    assert "1 missing entries in 1 of 1 rows filled" in printed.out
    assert "gaps.csv: left out 'column 1', which only numbers the rows" in printed.err
    pd.testing.assert_frame_equal(pd.read_csv("first.csv"), pd.read_csv("all.csv").iloc[:1], rtol=1e-10)
    assert (here / "whole.csv").is_file()


def test_completion_writes_quantiles_and_draws_of_columns_with_gaps(saved: Path, here: Path, refusal: Refusal) -> None:
    Path("gaps.csv").write_text("eruptions,waiting\n2.0,\n4.5,\n3.0,66.0\n")
    asked = ["complete", str(saved), "gaps.csv", "--quantiles", "0.05,0.5,.95", "--draws", "2"]
    assert main([*asked, "-o", "told.csv"]) == 0
    told = pd.read_csv("told.csv")
    added = ["waiting_q0.05", "waiting_q0.5", "waiting_q0.95", "waiting_draw0", "waiting_draw1"]
    assert list(told) == ["eruptions", "waiting", *added]
    assert (told.loc[2, added] == 66).all()
    law = probam.load(saved).conditional("waiting", {"eruptions": [2.0, 4.5]}, num_draws=50)
    np.testing.assert_allclose(told.loc[:1, added[:3]].to_numpy().T, law.quantile()[:, :, 0], rtol=1e-9)
    assert main([*asked, "--seed", "1", "-o", "again.nc"]) == 0
    again = xr.open_dataset("again.nc")
    assert float(again["waiting_draw0"][0]) != told.loc[0, "waiting_draw0"]
    for wrong in ("0.5,1", "half", ""):
        refused = refusal("complete", str(saved), "gaps.csv", "--quantiles", wrong, "-o", "out.csv")
        assert "--quantiles: expected numbers between 0 and 1" in refused
    assert sorted(os.listdir(here)) == ["again.nc", "gaps.csv", "told.csv"]


@pytest.mark.usefixtures("here")
def test_queries_that_do_not_fit_the_fit_are_refused(saved: Path, refusal: Refusal) -> None:
    assert "2 features" in refusal("recall", str(saved), "iris", "-o", "out.csv")
    Path("gap.csv").write_text("eruptions,waiting\n2.0,\n")
    assert "missing value" in refusal("recall", str(saved), "gap.csv", "-o", "out.csv")
    Path("gap.csv").unlink()
    assert "step" in refusal("recall", str(saved), "faithful", "--step", "2.5", "-o", "out.csv")
    assert "--max-steps" in refusal("recall", str(saved), "faithful", "--max-steps", "0", "-o", "out.csv")
    Path("half.nc").write_bytes(saved.read_bytes()[: saved.stat().st_size // 2])
    assert "half.nc" in refusal("predict", "half.nc", "faithful", "-o", "out.csv")
    assert os.listdir() == ["half.nc"]


def test_a_report_stands_alone(saved: Path, here: Path) -> None:
    assert main(["report", str(saved), "-o", "report.html"]) == 0
    page = (here / "report.html").read_text(encoding="utf-8")
    assert page.lstrip().lower().startswith("<!doctype html")
    assert "waiting" in page
    assert not re.search(r"""(src|href)\s*=\s*["']https?:""", page)


def test_annealed_recall_takes_noise_away(saved: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pd.DataFrame({"eruptions": [1.0, 5.5], "waiting": [40.0, 100.0]}).to_csv("noisy.csv", index=False)
    asked = ["recall", str(saved), "noisy.csv", "--noise", "0.8", "--max-steps", "100"]
    assert main([*asked, "--annealed", "ode", "-o", "clean.csv"]) == 0
    assert "2 queries annealed from a noise of 0.8, to 2 memories" in capsys.readouterr().out
    clean = pd.read_csv("clean.csv")
    assert list(clean) == ["eruptions", "waiting", "energy", "basin", "responsible"]
    noisy = probam.load(saved).energy(pd.read_csv("noisy.csv"))
    assert (clean["energy"] < noisy).all()
    for seed in ("1", "2"):
        assert main([*asked, "--annealed", "sde", "--seed", seed, "-o", f"{seed}.npz"]) == 0
    assert not np.allclose(np.load(here / "1.npz")["state"], np.load(here / "2.npz")["state"])


def test_new_data_are_drawn_in_three_ways(saved: Path, here: Path, refusal: Refusal) -> None:
    for by in ("draws", "ode", "sde"):
        assert main(["sample", str(saved), "400", "--by", by, "-o", f"{by}.csv"]) == 0
        drawn = pd.read_csv(here / f"{by}.csv")
        assert list(drawn) == ["eruptions", "waiting"]
        assert abs(drawn["waiting"].mean() - 70.9) < 4 * 13.6 / np.sqrt(400)
    assert "--by: expected draws, ode or sde; got 'exact'" in refusal(
        "sample", str(saved), "4", "--by", "exact", "-o", "x.csv"
    )


@pytest.mark.usefixtures("here")
def test_options_of_annealed_recall_go_together(saved: Path, refusal: Refusal) -> None:
    for words, why in (
        (("--noise", "1"), "--noise and --seed belong to annealed recall; add --annealed ode"),
        (("--annealed", "ode"), "--annealed: say how noisy the queries are: --noise SD"),
        (("--annealed", "pde", "--noise", "1"), "--annealed: expected ode or sde; got 'pde'"),
        (("--annealed", "ode", "--noise", "1", "--step", "0.5"), "--step: annealed recall steps from one noise"),
        (("--annealed", "ode", "--noise", "0"), "noise: expected a number above 0; got 0.0"),
        (("--annealed", "ode", "--noise", "1", "--max-steps", "1"), "num_steps: expected a whole number of at least 2"),
    ):
        assert why in refusal("recall", str(saved), "faithful", *words, "-o", "out.csv")


def test_a_report_says_how_well_memories_agree_with_labels(saved: Path, here: Path, refusal: Refusal) -> None:
    waiting = variable(probam.load(saved).tree, "observed_data", "x").values[:, 1]
    kinds = np.where(waiting < 68, "<i>short</i>", "long")
    pd.DataFrame({"kind": kinds, "n": np.arange(272)}).to_csv("kinds.csv", index=False)
    assert main(["report", str(saved), "--labels", "kinds.csv:kind", "-o", "page.html"]) == 0
    page = (here / "page.html").read_text(encoding="utf-8")
    assert "Do the memories match the known labels?" in page
    assert "&lt;i&gt;short&lt;/i&gt;" in page
    assert "<i>short" not in page
    Path("few.csv").write_text("kind\nlong\nshort\n")
    said = refusal("report", str(saved), "--labels", "few.csv", "-o", "x.html")
    assert "labels: expected one for each of 272 fitted data; got 2" in said
    assert not (here / "x.html").exists()


@pytest.mark.usefixtures("here")
def test_labels_of_the_fitted_rows_are_found_where_they_are() -> None:
    kinds = ["ash", None, "elm"]
    frame = pd.DataFrame({"a": [1.0, 2.0, 3.0], "kind": kinds})
    frame.to_csv("trees.csv", index=False)
    frame.to_parquet("copy.parquet")
    for text, fitted in (
        ("kind", "trees.csv"),
        ("trees.csv:kind", "array"),
        ("copy.parquet:kind", ""),
        ("trees.csv", ""),
    ):
        found = labels_of_fitted(text, fitted)
        assert [None if pd.isna(label) else label for label in found] == kinds
    assert len(set(labels_of_fitted("label", "iris"))) == len(set(labels_of_fitted("iris", "gone.csv"))) == 3
    with pytest.raises(InputError, match=r"labels: trees\.csv has no column 'sort'"):
        labels_of_fitted("sort", "trees.csv")
    said = r"--labels: kind is neither a file nor a shipped set, and the data of the fit \(gone\.csv\) are no file"
    with pytest.raises(InputError, match=said):
        labels_of_fitted("kind", "gone.csv")
