"""The command that makes a fit."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

import probam
from probam.cli.main import main
from probam.data.table import Table
from probam.errors import InputError
from tests.cli.conftest import QUICK, Refusal


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--engine emm", "engine: expected one of em, gradient_em, clam, svi, cavi, nuts, gibbs, smc; got 'emm'"),
        ("--family gausian", "family: "),
        ("--covariance round", "covariance: "),
        ("--weights dpp --components 3", "weights: "),
        ("--weights dirichlet", "components: "),
        ("--components 0", "components: "),
        ("--components 273", "components: 273 memories for 272 data"),
        ("--alpha 0", "alpha: "),
        ("--alpha -1", "alpha: "),
        ("--alpha nan", "alpha: "),
        ("--weights pyp --discount 1", "discount: "),
        ("--weights pyp --discount -0.1", "discount: "),
        ("--seed -1", "seed: "),
        ("--num-draws 0", "num_draws: "),
        ("--num-chains 0", "num_chains: "),
        ("--num-steps 5", "num_steps: engine 'gibbs' has no such option; it has"),
        ("--option colour=red", "colour: engine 'gibbs' has no such option"),
        ("--family vmf", "faithful: |data: |unit"),
        ("--family gone.py:Mine", "gone.py"),
    ],
)
def test_models_that_cannot_be_are_refused_in_one_line(words: str, message: str, refusal: Refusal) -> None:
    assert re.search(message, refusal("fit", "faithful", *words.split()))
    assert os.listdir() == []


@pytest.mark.usefixtures("here")
def test_a_constant_column_is_refused_by_name(refusal: Refusal) -> None:
    Path("flat.csv").write_text("a,b\n1,2\n3,2\n5,2\n")
    assert "'b'" in refusal("fit", "flat.csv", "--components", "2")
    assert "'b' is constant" in refusal("fit", "flat.csv", "--components", "2", "--standardise")


def test_a_fit_speaks_json(record: dict[str, Any], saved: Path) -> None:
    assert (record["engine"], record["weights"], record["seed"]) == ("em", "dp", 0)
    assert record["columns"] == ["eruptions", "waiting"]
    assert record["truncation"]["num_components"] == 5
    assert len(record["memory"]["weight"]) == 5
    np.testing.assert_allclose(sum(record["memory"]["weight"]), 1.0, rtol=1e-9)
    assert "log_lik" in {row["name"] for row in record["summary"]}
    assert [path.name for path in saved.parent.iterdir()] == ["fit.nc"]


def test_a_fit_tells_people_what_it_found_and_the_same_seed_finds_the_same(
    saved: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["fit", "faithful", *QUICK]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    for words in (
        "eruptions",
        "waiting",
        "memories",
        "[truncation] 5 memories",
        "saved fit.nc",
        "probam report fit.nc",
    ):
        assert words in printed.out
    with xr.open_datatree(saved) as first, xr.open_datatree("fit.nc") as second:
        for name, variable in first["posterior"].data_vars.items():
            np.testing.assert_array_equal(variable, second["posterior"][str(name)])
    assert [path.name for path in here.iterdir()] == ["fit.nc"]


@pytest.mark.usefixtures("here")
def test_known_labels_are_no_feature_and_are_compared_with_the_memories(capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(4)
    kind = np.repeat(["ash", "elm", "oak"], 30)
    x = np.repeat([[0.0, 0.0], [6.0, 0.0], [0.0, 6.0]], 30, axis=0) + rng.normal(size=(90, 2))
    frame = pd.DataFrame(x, columns=["a", "b"]).assign(kind=kind, name="tree")
    frame.loc[7, "kind"] = None
    frame.to_csv("trees.csv")
    words = ["--weights", "dirichlet", "--components", "3", "--engine", "em", "--covariance", "isotropic"]
    assert main(["fit", "trees.csv", "--drop", "name", "--labels", "kind", *words, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["columns"] == ["a", "b"]
    assert main(["predict", "fit.nc", "trees.csv", "--labels", "kind", "-o", "labels.csv"]) == 0
    known, found = np.delete(kind, 7), np.delete(pd.read_csv("labels.csv")["label"].to_numpy(), 7)
    ari, nmi = adjusted_rand_score(known, found), normalized_mutual_info_score(known, found)
    assert ari > 0.9
    assert record["agreement"] == pytest.approx({"ari": ari, "nmi": nmi, "num_data": 89, "num_labels": 3})
    line = (
        f"agreement with 3 labels of 89 data: adjusted Rand index {ari:.3f}, normalised mutual information {nmi:.3f}\n"
    )
    assert line in capsys.readouterr().out
    assert main(["fit", "trees.csv", "--columns", "a,b,kind", "--labels", "kind", *words]) == 0
    assert line in capsys.readouterr().out


@pytest.mark.usefixtures("here")
def test_columns_of_weights_and_labels_are_read_in_blocks_too(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    kind = rng.integers(2, size=4000)
    rows = rng.normal(size=(4000, 2)) + 3 * kind[:, None]
    frame = pd.DataFrame(rows, columns=["a", "b"]).assign(
        often=rng.integers(1, 4, 4000), kind=np.array(["x", "y"])[kind]
    )
    frame.to_csv("rows.csv", index=False)
    model = {"engine": "em", "weights": "dirichlet", "components": 2, "covariance": "diagonal", "memory": "400kB"}
    words = [word for name, value in model.items() for word in (f"--{name}", str(value))]
    asked = [*words, "--sample-weight", "often", "--labels", "kind", "--json", "--quiet", "-o", "fit.nc"]
    assert main(["fit", "rows.csv", *asked]) == 0
    record = json.loads(capsys.readouterr().out)
    fitted = probam.load(here / "fit.nc")
    assert fitted.columns == ("a", "b")
    assert len(fitted.tree["observed_data"]["datum"]) < 4000
    by_hand = probam.fit(rows, sample_weight=frame["often"], **model)
    assert record["log_likelihood"] == pytest.approx(frame["often"] @ fitted.log_prob(rows), rel=1e-9)
    np.testing.assert_allclose(record["log_likelihood"], frame["often"] @ by_hand.log_prob(rows), rtol=1e-6)
    memory = fitted.predict(rows)["label"].values
    assert record["agreement"]["ari"] == pytest.approx(adjusted_rand_score(kind, memory))
    assert record["agreement"]["num_data"] == 4000
    assert main(["fit", "rows.csv", *(word for word in asked if word not in ("--json", "--quiet"))]) == 0
    assert "probam report fit.nc    (a page to read)" in capsys.readouterr().out  # its rows are a sample of the labels
    assert main(["report", "fit.nc", "-o", "fit.html"]) == 0


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "words", [[], ["--missing"], ["--memory", "130KiB"]], ids=lambda words: " ".join(words) or "all"
)
@pytest.mark.parametrize("weight", ["nan", "-1"])
def test_a_weight_that_cannot_be_is_named_by_its_line(
    weight: str, words: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"{i},{i * i % 7},{weight if i == 1500 else 1}" for i in range(1, 20001)]
    (here / "rows.csv").write_text("\n".join(["a,b,often", *rows]), encoding="utf-8")
    model = "--engine em --weights dirichlet --components 2 --covariance diagonal --sample-weight often -o fit.nc"
    assert main(["fit", "rows.csv", *model.split(), *words]) == 2
    said = capsys.readouterr().err
    assert "row 1500 (line 1501)" in said
    assert "--missing" not in said


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("columns", [[], ["--columns", "a"]], ids=["all columns", "some columns"])
@pytest.mark.parametrize("memory", [[], ["--memory", "64MiB"]], ids=["in memory", "in blocks"])
def test_a_column_of_weights_that_is_not_there_is_told_by_its_own_flag(
    memory: list[str], columns: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    pd.DataFrame(np.random.default_rng(0).normal(size=(60, 2)), columns=["a", "b"]).to_csv("rows.csv", index=False)
    assert main(["fit", "rows.csv", *columns, "--engine", "em", "--sample-weight", "w", *memory]) == 2
    assert "probam: sample_weight: rows.csv has no column 'w'; it has 'a', 'b'" in capsys.readouterr().err
    assert main(["fit", "rows.csv", "--drop", "z", "--engine", "em", "--sample-weight", "w", *memory]) == 2
    assert "probam: drop: rows.csv has no column 'z'" in capsys.readouterr().err


@pytest.mark.usefixtures("here")
def test_a_column_that_looks_like_labels_is_named_with_the_flags_that_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fit(*_: object, **__: object) -> None:
        raise InputError("seen")

    monkeypatch.setattr("probam.fits.fit.fit", fit)
    x = np.random.default_rng(5).normal(size=(60, 2))
    pd.DataFrame(x, columns=["a", "b"]).assign(**{"the kind": np.arange(60) % 3}).to_csv("x.csv", index=False)
    assert main(["fit", "x.csv"]) == 2
    assert capsys.readouterr().err == (
        "probam: x.csv: column 'the kind' has few distinct whole numbers, as labels have, and is fitted as a feature; "
        "--drop 'the kind' leaves it out, --labels 'the kind' also compares the memories with it\nprobam: seen\n"
    )
    for words in (["--drop", "the kind"], ["--labels", "the kind"], ["--columns", "a,the kind"]):
        assert main(["fit", "x.csv", *words]) == 2
        assert capsys.readouterr().err == "probam: seen\n"
    assert main(["fit", "iris", "--labels", "label"]) == 2
    assert main(["fit", "iris", "--labels", "species"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "probam: seen",
        "probam: labels: the known classes of a shipped set are its column 'label'; got 'species'",
    ]


def test_float32_hands_single_precision_over_with_x64_off(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[np.dtype[Any], bool]] = []

    def fit(table: Table, **_: object) -> None:
        seen.append((table.values.dtype, jax.config.read("jax_enable_x64")))
        raise InputError("seen")

    monkeypatch.setattr("probam.fits.fit.fit", fit)
    try:
        assert main(["fit", "faithful", "--float32"]) == 2
        assert main(["fit", "faithful"]) == 2
    finally:
        jax.config.update("jax_enable_x64", True)
    assert seen == [(np.dtype(np.float32), False), (np.dtype(np.float64), True)]
    assert list(here.iterdir()) == []


@pytest.mark.slow
def test_a_fit_in_single_precision_stays_in_it(here: Path) -> None:
    words = ["fit", "faithful", *QUICK, "--float32"]
    run = subprocess.run([sys.executable, "-m", "probam.cli.main", *words], capture_output=True, text=True, cwd=here)
    assert (run.returncode, run.stderr) == (0, "")
    with xr.open_datatree(here / "fit.nc") as tree:
        assert tree.attrs["dtype"] == "float32"
        assert tree["posterior"]["weights"].dtype == np.float32
