"""Commands that answer rows of a file block by block write what they write of all rows at once."""

import io
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from probam.cli.main import main
from probam.data.shipped import load_shipped
from tests.cli.conftest import Refusal

OUTPUTS = ("t.csv", "t.tsv.gz", "t.parquet", "t.npz", "t.nc")


def _frame() -> pd.DataFrame:
    """Rows of which no column but one is of one kind in all blocks of five."""
    x = load_shipped("faithful").frame().iloc[:33].reset_index(drop=True)
    number = np.arange(33)
    mixed = [str(i) if i < 20 else f"no {i}" for i in range(33)]
    whole = np.where(number == 30, np.nan, number)
    return pd.DataFrame(
        {
            "twice": number % 32,  # tells rows apart within blocks alone
            "who": [f"{i:03}" if i < 9 else f"w{i}" for i in range(33)],  # numbers in the first block
            **{name: x[name] for name in x.columns},
            "mixed": mixed,
            "whole": whole,
            "kind": [None if i == 17 else "ab"[i >= 12] for i in range(33)],
        }
    )


def _make_blocks_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probam.fits.questions._MOST", 5)
    monkeypatch.setattr("probam.data.source._FEWEST", 5)
    monkeypatch.setattr("probam.data.source._AT_ONCE", 1)


@pytest.fixture
def in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """All questions go in blocks of five rows."""
    _make_blocks_small(monkeypatch)


def _read(name: str) -> pd.DataFrame:
    if name.endswith("parquet"):
        return pd.read_parquet(name)
    if name.endswith(".nc"):
        with xr.open_dataset(name) as data:
            return pd.DataFrame({str(k): list(v.values) for k, v in data.data_vars.items()})
    if name.endswith(".npz"):
        return pd.DataFrame({k: list(v) for k, v in np.load(name).items() if len(v) > 30})
    return pd.read_csv(name, sep="\t" if ".tsv" in name else ",", keep_default_na=False)


ASKED = {
    "predict": ["predict", "FIT", "rows.csv", "--with-inputs", "--labels", "kind"],
    "predict probabilities": ["predict", "FIT", "rows.parquet", "--probabilities", "--above", "0.5", "--with-inputs"],
    "predict all": ["predict", "FIT", "rows.csv", "--all", "--id", "mixed"],
    "recall": ["recall", "FIT", "rows.csv"],
    "anneal": ["recall", "FIT", "rows.csv", "--annealed", "ode", "--noise", "0.5", "--max-steps", "20"],
    "complete": ["complete", "FIT", "gaps.csv", "--spread", "--quantiles", "0.1,0.9", "--draws", "2"],
    "complete by descent": ["complete", "FIT", "gaps.csv", "--by", "descent"],
}


@pytest.mark.parametrize("words", ASKED.values(), ids=ASKED)
def test_blocks_write_what_all_rows_at_once_do(
    saved: Path, here: Path, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = _frame()
    frame.to_csv("rows.csv", index=False)
    frame.to_parquet("rows.parquet")
    frame.loc[[7, 21], "waiting"] = np.nan
    frame.to_csv("gaps.csv", index=False)
    words = [str(saved) if word == "FIT" else word for word in words]
    whole, outputs = {}, OUTPUTS if "--labels" in words else ("t.csv", "t.parquet")
    for name in outputs:
        assert main([*words, "-o", name]) == 0
        whole[name] = _read(name)
    told = capsys.readouterr().out
    _make_blocks_small(monkeypatch)
    for name in outputs:
        assert main([*words, "-o", name]) == 0
        pd.testing.assert_frame_equal(_read(name), whole[name], rtol=1e-9, check_like=True)
    assert capsys.readouterr().out == told
    assert sorted(path.name for path in here.iterdir()) == sorted([*outputs, "rows.csv", "rows.parquet", "gaps.csv"])
    name = words[words.index("--id") + 1] if "--id" in words else "who"
    assert next(iter(whole["t.csv"])) == name
    assert whole["t.csv"][name].tolist() == frame[name].astype(str).tolist()


@pytest.mark.usefixtures("in_blocks")
def test_a_memory_of_the_last_rows_has_a_column(saved: Path, here: Path) -> None:
    frame = load_shipped("faithful").frame()
    ordered = frame.sort_values("eruptions")
    ordered.to_csv("ordered.csv", index=False)
    assert main(["predict", str(saved), "ordered.csv", "--above", "0.3", "-o", "t.csv"]) == 0
    told = pd.read_csv(here / "t.csv")
    shares = told.filter(like="responsibilities_")
    assert (shares.max() > 0.3).all()
    assert set(told["label"]) <= {int(str(name).removeprefix("responsibilities_")) for name in shares}
    np.testing.assert_allclose(shares.sum(axis=1) + told["other"], 1, rtol=1e-9)


@pytest.mark.usefixtures("in_blocks")
def test_rows_that_only_one_block_tells_apart_are_numbered(saved: Path, here: Path) -> None:
    frame = load_shipped("faithful").frame().iloc[:12]
    frame.assign(day=["mo", "tu", "we", "th", "fr", "sa"] * 2).to_csv("rows.csv", index=False)
    assert main(["predict", str(saved), "rows.csv", "-o", "t.csv"]) == 0
    assert pd.read_csv(here / "t.csv")["row"].tolist() == list(range(12))
    assert main(["recall", str(saved), "rows.csv", "-o", "r.csv"]) == 0
    assert next(iter(pd.read_csv(here / "r.csv"))) == "eruptions"
    assert main(["complete", str(saved), "rows.csv", "--id", "day", "-o", "c.csv"]) == 0
    assert pd.read_csv(here / "c.csv")["day"].tolist() == ["mo", "tu", "we", "th", "fr", "sa"] * 2


@pytest.mark.usefixtures("in_blocks")
def test_a_fault_in_a_late_block_leaves_the_older_file(saved: Path, here: Path, refusal: Refusal) -> None:
    frame = load_shipped("faithful").frame().iloc[:20].astype({"waiting": object})
    frame.loc[17, "waiting"] = "long"
    frame.to_csv("rows.csv", index=False)
    for output in OUTPUTS:
        Path(output).write_text("older")
        said = refusal("predict", str(saved), "rows.csv", "-o", output)
        assert "column 'waiting' holds text in row 18 (line 19): 'long'" in said
        assert Path(output).read_text() == "older"
    assert sorted(path.name for path in here.iterdir()) == sorted([*OUTPUTS, "rows.csv"])


@pytest.mark.usefixtures("in_blocks")
def test_standard_input_goes_by_in_blocks(
    saved: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _frame().to_csv("rows.csv", index=False)
    asked = ["--with-inputs", "--probabilities"]
    assert main(["predict", str(saved), "rows.csv", *asked, "-o", "t.csv"]) == 0
    capsys.readouterr()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(Path("rows.csv").read_bytes())))
    assert main(["predict", str(saved), "-", *asked, "-o", "-"]) == 0
    assert capsys.readouterr().out == (here / "t.csv").read_text()
