"""Commands before a fit: the shipped data, and a prior from expectations."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from probam.cli.main import main
from probam.data.shipped import load_shipped
from tests.cli.conftest import Refusal


def test_data_lists_tells_and_writes(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data"]) == 0
    printed = capsys.readouterr()
    assert "faithful" in printed.out
    assert printed.err == ""
    assert main(["data", "--json"]) == 0
    records = {record["name"]: record for record in json.loads(capsys.readouterr().out)}
    assert records["iris"]["shape"] == [150, 4]
    assert main(["data", "letter20k"]) == 0
    assert "CC BY 4.0" in capsys.readouterr().out
    assert main(["data", "iris", "--labels", "-o", "iris.csv"]) == 0
    frame = pd.read_csv("iris.csv")
    np.testing.assert_array_equal(frame.iloc[:, :4], load_shipped("iris").values)
    assert sorted(frame["label"].unique()) == ["setosa", "versicolor", "virginica"]
    assert [path.name for path in here.iterdir()] == ["iris.csv"]


def test_the_prior_command_gives_parameters_that_expect_what_was_asked(capsys: pytest.CaptureFixture[str]) -> None:
    wishes = ["--memories", "12", "--num-data", "1000", "--later-memories", "22", "--later-num-data", "10000"]
    assert main(["prior", *wishes, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["weights"] == "pyp"
    now, later, _ = record["expected"]
    assert (now["num_data"], later["num_data"]) == (1000, 10_000)
    assert (now["memories"], later["memories"]) == pytest.approx((12, 22), rel=1e-6)
    assert main(["prior", *wishes]) == 0
    assert f"--alpha {record['alpha']:.6g} --discount {record['discount']:.6g}" in capsys.readouterr().out
    assert main(["prior", *wishes[:4], "--sd", "6", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["alpha_prior"]["law"] == "Gamma"


def test_wishes_that_exclude_each_other_are_refused(refusal: Refusal) -> None:
    wishes = ["prior", "--memories", "12", "--num-data", "1000"]
    assert "give at most one of them" in refusal(*wishes, "--discount", "0.1", "--sd", "5")
    assert "--later-num-data" in refusal(*wishes, "--later-memories", "20")
    assert "allow between" in refusal(*wishes, "--later-memories", "13", "--later-num-data", "10000")
