"""The command that makes memories as data arrive."""

import io
import json
import sys

import numpy as np
import pandas as pd
import pytest

from probam.cli.main import main
from tests.cli.conftest import Refusal


@pytest.mark.usefixtures("here")
def test_a_stream_in_two_pieces_is_the_stream_in_one(
    refusal: Refusal, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(2)
    centres = np.array([[0.0, 0.0], [9.0, 1.0], [-4.0, 8.0]])
    frame = pd.DataFrame(centres[rng.integers(0, 3, 260)] + rng.normal(size=(260, 2)), columns=["a", "b"])
    frame.to_csv("whole.csv", index=False)
    frame[:150].to_csv("first.csv", index=False)
    words = ["--covariance", "isotropic", "--warm", "40", "--json"]
    assert main(["stream", "whole.csv", *words, "-o", "whole.nc"]) == 0
    whole = json.loads(capsys.readouterr().out)
    assert main(["stream", "first.csv", *words, "-o", "half.nc"]) == 0
    capsys.readouterr()
    monkeypatch.setattr(sys, "stdin", io.StringIO(frame[150:].to_csv(index=False)))
    assert main(["stream", "-", "--resume", "half.nc", "-o", "both.nc", "--json"]) == 0
    both = json.loads(capsys.readouterr().out)
    assert {"memories", "seconds", "peak_mib"} <= both.keys()
    assert (both["data"], both["memories"]) == (260, whole["memories"])
    assert both["log_predictive"] == whole["log_predictive"]  # the same bits
    assert main(["predict", "both.nc", "whole.csv", "-o", "labels.csv"]) == 0
    capsys.readouterr()
    assert "leave it out" in refusal("stream", "whole.csv", "--resume", "half.nc", "--alpha", "3")


@pytest.mark.usefixtures("here")
def test_a_stream_says_what_it_left_out_and_remembers_that_rows_are_directions(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rng = np.random.default_rng(3)
    angle = np.repeat([0.0, 2.0], 40) + 0.05 * rng.normal(size=80)
    x = np.column_stack([np.cos(angle), np.sin(angle)]) * rng.lognormal(size=(80, 1))
    frame = pd.DataFrame(x, columns=["a", "b"]).assign(who="x", c=1.0)
    frame.to_csv("rows.csv")  # with an index, which pandas writes without a name
    words = ["--columns", "a,b", "--drop", "who", "--normalise", "--covariance", "isotropic", "--warm", "40"]
    assert main(["stream", "rows.csv", *words]) == 0
    printed = capsys.readouterr()
    assert printed.err.splitlines()[0] == "probam: rows.csv: left out 'column 1', which only numbers the rows"
    assert "80 data" in printed.out
    for scale, out in ((1, "one.csv"), (100, "two.csv")):
        (scale * frame[["a", "b"]]).to_csv("asked.csv", index=False)
        assert main(["predict", "fit.nc", "asked.csv", "-o", out]) == 0
    pd.testing.assert_frame_equal(pd.read_csv("one.csv"), pd.read_csv("two.csv"))
