"""What an engine returned is in the file where reading it is cut off; the rest is then made when the file is loaded."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import probam.fits.fit as api
import probam.fits.posterior as posterior
from probam.cli.main import main
from probam.errors import InputError
from probam.fits.fitted import Fit
from probam.reports.tree import read_tree

RNG = np.random.default_rng(2)
X = np.r_[RNG.normal(-3, 1, (40, 2)), RNG.normal(3, 1, (30, 2))]
X[::9, 1] = np.nan


def fitted(output: Path | None, engine: str = "em") -> Fit:
    few = {"num_chains": 2, "num_draws": 20, "num_warmup": 20} if engine == "gibbs" else {"restarts": 2}
    return api.fit(
        X,
        covariance="isotropic",
        weights="dirichlet",
        components=2,
        engine=engine,
        missing=True,
        standardise=True,
        seed=3,
        output=output,
        sample_weight=np.arange(70.0) if engine == "em" else None,
        **few,
    )


def cut_off(*_: object, **__: object) -> Any:
    raise KeyboardInterrupt


@pytest.mark.parametrize(("engine", "is_long"), [("em", True), ("em", False), ("gibbs", True)])
def test_a_fit_that_was_cut_off_is_completed_with_the_same_bits(
    engine: str, is_long: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, seen = fitted(None, engine), []

    def watched(*_: object, **__: object) -> Any:
        seen.append((tmp_path / "fit.nc").exists())
        cut_off()

    with monkeypatch.context() as patched:
        patched.setattr(api, "_SOON_AGAIN", 0.0 if is_long else np.inf)
        patched.setattr(posterior, "read", watched)
        with pytest.raises(KeyboardInterrupt):
            fitted(tmp_path / "fit.nc", engine)
    assert seen == [is_long]
    assert [path.name for path in tmp_path.iterdir()] == ["fit.nc"]
    written = read_tree(tmp_path / "fit.nc")
    assert "memory" in json.loads(written.attrs["pending"])
    assert "memory" not in written.children
    loaded = api.load(tmp_path / "fit.nc")
    assert set(loaded.tree.children) == set(whole.tree.children)
    for name in whole.tree.children:
        xr.testing.assert_identical(loaded.tree[name].to_dataset(), whole.tree[name].to_dataset())
    differ = {"seconds"}
    assert {k: v for k, v in loaded.tree.attrs.items() if k not in differ} == {
        k: v for k, v in whole.tree.attrs.items() if k not in differ
    }


def test_a_fit_that_was_not_cut_off_replaces_what_was_written_first(tmp_path: Path) -> None:
    whole = fitted(tmp_path / "fit.nc")
    loaded = api.load(tmp_path / "fit.nc")
    assert [path.name for path in tmp_path.iterdir()] == ["fit.nc"]
    assert "pending" not in read_tree(tmp_path / "fit.nc").attrs
    xr.testing.assert_identical(loaded.group("recall"), whole.group("recall"))


def test_a_file_that_cannot_be_written_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "_run", cut_off)
    with pytest.raises(InputError, match="nowhere"):
        fitted(tmp_path / "nowhere" / "fit.nc")
    with pytest.raises(InputError, match="output: expected the path of a file"):
        api.fit(X, missing=True, output=7)


def test_the_command_says_that_the_file_holds_what_the_engine_returned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(posterior, "read", cut_off)
    words = "fit faithful --covariance isotropic --weights dirichlet --components 2 --engine em --restarts 2 -o"
    assert main([*words.split(), str(tmp_path / "fit.nc")]) == 130
    said = capsys.readouterr().err
    assert "fit.nc holds what the engine returned; the rest is computed when it is read" in said
    assert said.strip().splitlines()[-1].startswith("probam: interrupted; ")
