"""The table of ``probam predict``: names of rows, inputs, responsibilities, and how sure the assignment is."""

import io
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import probam
from probam.cli.main import main
from probam.cli.predicted import predicted_table
from probam.data.source import Rows
from probam.data.table import as_table
from tests.cli.conftest import Refusal

ROWS = pd.DataFrame(
    {
        "label": ["long", "short", "short", "odd"],
        "who": ["a", "b", "c", "d"],
        "eruptions": [4.4, 2.1, 1.9, 3.1],
        "waiting": [83.0, 50.0, 54.0, 65.0],
    }
)


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fit with a few draws, which do not agree on the rows."""
    path = tmp_path_factory.mktemp("fits") / "sampled.nc"
    words = "--engine gibbs --components 4 --num-chains 2 --num-warmup 5 --num-draws 20 --covariance diagonal"
    assert main(["fit", "faithful", *words.split(), "-o", str(path)]) == 0
    return path


def test_the_spread_of_the_confidence_is_that_of_the_draws(sampled: Path, here: Path) -> None:
    ROWS.to_csv("rows.csv", index=False)
    assert main(["predict", str(sampled), "rows.csv", "-o", "labels.csv"]) == 0
    told = pd.read_csv(here / "labels.csv")
    assert list(told) == ["who", "label", "confidence", "confidence_sd", "log_density"]
    fit = probam.load(sampled)
    permutation = fit.group("memory")["permutation"].values
    x = jnp.asarray(fit.standardiser.apply(ROWS[["eruptions", "waiting"]].to_numpy()))
    draws = fit.draws()
    of_label = []
    for number, order in enumerate(permutation):
        one = fit.model.mixture({name: value[number] for name, value in draws.items()})
        of_label.append(np.asarray(one.responsibilities(x))[:, order][np.arange(4), told["label"]])
    np.testing.assert_allclose(told["confidence"], np.mean(of_label, axis=0), rtol=1e-9)
    np.testing.assert_allclose(told["confidence_sd"], np.std(of_label, axis=0), rtol=0, atol=1e-9)
    assert told["confidence_sd"].max() > 0.01


def test_inputs_come_along_and_never_take_the_name_of_an_answer(sampled: Path, here: Path) -> None:
    ROWS.to_csv("rows.csv", index=False)
    assert main(["predict", str(sampled), "rows.csv", "--with-inputs", "--id", "label", "-o", "labels.csv"]) == 0
    told = pd.read_csv(here / "labels.csv")
    inputs = ["input_label", "who", "eruptions", "waiting"]
    assert list(told) == [*inputs, "label", "confidence", "confidence_sd", "log_density"]
    pd.testing.assert_frame_equal(told[inputs].set_axis(ROWS.columns, axis=1), ROWS)


@pytest.mark.usefixtures("here")
def test_every_kind_of_file_holds_the_table(sampled: Path) -> None:
    ROWS.assign(who=["a", np.nan, "c", "d"]).to_csv("rows.csv", index=False)
    for name in ("t.parquet", "t.nc", "t.npz", "t.tsv"):
        assert main(["predict", str(sampled), "rows.csv", "--with-inputs", "--probabilities", "-o", name]) == 0
    assert pd.read_parquet("t.parquet")["who"].tolist() == ["a", "", "c", "d"]
    assert xr.open_dataset("t.nc")["who"].values.tolist() == ["a", "", "c", "d"]
    np.testing.assert_array_equal(np.load("t.npz")["row"], np.arange(4))


def test_memories_below_the_threshold_are_summed() -> None:
    each = np.array([[0.9, 0.004, 0.09, 0.006], [0.2, 0.008, 0.789, 0.003]])
    predicted = xr.Dataset({"label": ("datum", [0, 2]), "responsibilities": (("datum", "memory"), each)})
    predicted = predicted.assign_coords(datum=[0, 1], memory=np.arange(4))
    table = as_table([[1.0], [2.0]])
    rows = Rows(table, None, table)
    few = predicted_table(predicted, rows, shown=np.array([True, False, True, False]))
    assert few["memory"].values.tolist() == [0, 2]
    np.testing.assert_allclose(few["other"], [0.01, 0.011], rtol=1e-12)
    np.testing.assert_allclose(few["responsibilities"].sum("memory") + few["other"], 1.0, rtol=1e-12)
    every = predicted_table(predicted, rows)
    assert every.sizes["memory"] == 4
    assert "other" not in every


@pytest.mark.usefixtures("here")
def test_a_number_of_a_row_is_the_one_that_the_file_has(sampled: Path) -> None:
    numbered = ROWS[["eruptions", "waiting"]].set_axis(range(1, 5))
    numbered.to_csv("from_one.csv")
    assert main(["predict", str(sampled), "from_one.csv", "-o", "labels.csv"]) == 0
    assert pd.read_csv("labels.csv")["row"].tolist() == [1, 2, 3, 4]


def test_a_table_goes_from_standard_input_to_standard_output(
    sampled: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ROWS.to_csv("rows.csv", index=False)
    asked = ["--labels", "label", "--with-inputs"]
    assert main(["predict", str(sampled), "rows.csv", *asked, "-o", "file.csv"]) == 0
    told = capsys.readouterr().out
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(Path("rows.csv").read_bytes())))
    assert main(["predict", str(sampled), "-", *asked, "-o", "-"]) == 0
    printed = capsys.readouterr()
    assert printed.out == (here / "file.csv").read_text()
    lines = [f"probam: {line}" for line in told.splitlines() if not line.startswith("wrote")]
    assert printed.err.splitlines() == lines


@pytest.mark.usefixtures("here")
def test_the_most_probable_memories_of_each_row_are_columns_in_their_order(sampled: Path) -> None:
    rows = ROWS.assign(memory_1=[7.5, 8, 9, 9])
    rows.to_csv("rows.csv", index=False)
    words = ["predict", str(sampled), "rows.csv", "--with-inputs"]
    assert main([*words, "--all", "-o", "all.csv"]) == 0
    assert main([*words, "--top", "3", "-o", "top.csv"]) == 0
    every, top = pd.read_csv("all.csv"), pd.read_csv("top.csv")
    shares = every.filter(regex="^responsibilities_").to_numpy()
    order = np.argsort(-shares, axis=1)[:, :3]
    np.testing.assert_array_equal(top[["memory_1", "memory_2", "memory_3"]], order)
    probabilities = top[["probability_1", "probability_2", "probability_3"]]
    np.testing.assert_allclose(probabilities, np.take_along_axis(shares, order, 1), rtol=1e-12)
    np.testing.assert_array_equal(top["input_memory_1"], rows["memory_1"])
    np.testing.assert_array_equal(top["confidence"], top["probability_1"])


def test_what_predict_cannot_do_is_refused(
    sampled: Path, here: Path, refusal: Refusal, monkeypatch: pytest.MonkeyPatch
) -> None:
    ROWS.to_csv("rows.csv", index=False)
    words = ("predict", str(sampled), "rows.csv")
    assert "id: rows.csv has no column 'whom'; it has" in refusal(*words, "--id", "whom", "-o", "l.csv")
    assert "--above: expected a number of at least 0 and below 1; got 1" in refusal(
        *words, "--above", "1", "-o", "l.nc"
    )
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    assert "standard input: it is empty; expected" in refusal("predict", str(sampled), "-", "-o", "l.csv")
    assert "--all, --above: give at most one" in refusal(*words, "--above", "0.1", "--all", "-o", "l.nc")
    assert "--top: give it without --probabilities" in refusal(*words, "--top", "2", "--all", "-o", "l.nc")
    assert "top: expected a whole number from 1 to 4, the memories of the fit; got 5" in refusal(
        *words, "--top", "5", "-o", "l.nc"
    )
    assert "top: expected a whole number from 1 to 4, the memories of the fit; got 0" in refusal(
        *words, "--top", "0", "-o", "l.nc"
    )
    assert "write the table to a file" in refusal(*words, "--json", "-o", "-")
    assert [path.name for path in here.iterdir()] == ["rows.csv"]
