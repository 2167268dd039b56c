"""A group that is made when it is asked for is a function of the file: the same bits whenever, wherever it is made."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import probam.fits.derived as derived
import probam.fits.fit as api
import probam.fits.kept as kept
from probam.cli.main import main
from probam.errors import InputError
from probam.fits.fitted import Fit
from probam.fits.groups import Group
from probam.fits.saved import Saved
from probam.models.gaussian import Gaussian
from probam.reports.tree import read_tree

RNG = np.random.default_rng(4)
X = np.r_[RNG.normal(-3, 1, (25, 2)), RNG.normal(3, 1, (20, 2))]
GAPS = np.where(RNG.random(X.shape) < 0.1, np.nan, X)
DERIVED = tuple(derived.DERIVED)


def fitted(x: np.ndarray = X, **options: Any) -> Fit:
    model = {"covariance": "isotropic", "weights": "dirichlet", "components": 2, "standardise": True}
    return api.fit(x, **model, **({"engine": "em", "restarts": 2} if "engine" not in options else {}), **options)


@pytest.fixture(scope="module")
def fit() -> Fit:
    return fitted()


def never(*_: object) -> Group:
    raise AssertionError("made again")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where groups are kept."""
    place = tmp_path / "kept"
    place.mkdir()
    monkeypatch.setattr(kept, "kept_folder", lambda: place)
    return place


@pytest.mark.parametrize(
    ("x", "options"),
    [
        (GAPS, {"missing": True}),
        (X.astype(np.float32), {}),
        (X, {"engine": "gibbs", "num_chains": 2, "num_draws": 30, "num_warmup": 30}),
    ],
)
def test_a_group_made_from_the_file_is_the_one_that_complete_writes(
    x: np.ndarray, options: dict[str, Any], tmp_path: Path
) -> None:
    whole, lean = (fitted(x, **options, complete=complete) for complete in (True, False))
    whole.save(tmp_path / "whole.nc")
    lean.save(tmp_path / "lean.nc")
    at_once = read_tree(tmp_path / "whole.nc")
    assert not set(DERIVED) & set(read_tree(tmp_path / "lean.nc").children)
    later = api.load(tmp_path / "lean.nc").to_datatree()
    assert list(later.children) == list(at_once.children)
    for name in at_once.children:
        xr.testing.assert_identical(later[name].to_dataset(), at_once[name].to_dataset())


def test_a_group_is_made_once_and_found_again_by_every_process(
    fit: Fit, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = Fit(fit.tree, fit.model)
    fit.save(tmp_path / "fit.nc")
    before = (tmp_path / "fit.nc").read_bytes()
    first = fit.to_datatree()
    for name in DERIVED:
        monkeypatch.setitem(derived.DERIVED, name, never)
    loaded = api.load(tmp_path / "fit.nc")
    for name in DERIVED:
        xr.testing.assert_identical(loaded.group(name), first[name].to_dataset())
    loaded.report(tmp_path / "report.html")
    assert "The energy landscape and recall" in (tmp_path / "report.html").read_text()
    assert (tmp_path / "fit.nc").read_bytes() == before
    assert len(list((folder / "groups").glob("*.nc"))) == len(DERIVED)
    loaded.save(tmp_path / "again.nc")
    assert not set(DERIVED) & set(read_tree(tmp_path / "again.nc").children)
    loaded.save(tmp_path / "again.nc", complete=True)
    assert set(DERIVED) < set(read_tree(tmp_path / "again.nc").children)


def small(fit: Saved) -> Group:
    """A group that costs nothing to make."""
    return Group({"x": (fit.x, ("datum", "feature"))})


@pytest.mark.parametrize("change", ["posterior/loc", "observed_data/x", "memory/permutation", "constant_data/scale"])
def test_a_group_of_other_numbers_is_not_found(
    change: str, fit: Fit, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(derived.DERIVED, "recall", small)
    Fit(fit.tree, fit.model).group("recall")
    monkeypatch.setitem(derived.DERIVED, "recall", never)
    Fit(fit.tree.copy(deep=True), fit.model).group("recall")
    group, name = change.split("/")
    tree = fit.tree.copy(deep=True)
    values = tree[group].to_dataset()[name].values
    values.flat[0], values.flat[1] = values.flat[1], values.flat[0]
    with pytest.raises(InputError, match="made again"):
        Fit(tree, fit.model).group("recall")
    assert len(list((folder / "groups").glob("*.nc"))) == 1


def test_what_cannot_be_read_is_made_again(fit: Fit, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(derived.DERIVED, "recall", small)
    first = Fit(fit.tree, fit.model).group("recall")
    (path,) = (folder / "groups").glob("*.nc")
    whole = path.stat().st_size
    path.write_bytes(path.read_bytes()[: whole // 2])
    xr.testing.assert_identical(Fit(fit.tree, fit.model).group("recall"), first)
    assert path.stat().st_size > whole // 2


def test_a_group_of_which_one_bit_is_wrong_is_not_read(fit: Fit, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(derived.DERIVED, "recall", small)
    Fit(fit.tree, fit.model).group("recall")
    (path,) = (folder / "groups").glob("*.nc")
    place = path.with_name(path.name.removesuffix("-recall.nc"))
    assert kept.kept(place, "recall") is not None
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for at in rng.integers(0, len(whole), 20):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << int(rng.integers(8))]) + whole[at + 1 :])
        assert kept.kept(place, "recall") is None
    path.write_bytes(whole)
    path.with_suffix(".sha256").unlink()
    assert kept.kept(place, "recall") is None


def test_a_folder_that_cannot_be_written_to_loses_no_group(
    fit: Fit, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(derived.DERIVED, "recall", small)
    (folder / "groups").write_text("a file where the folder would be")
    assert "x" in Fit(fit.tree, fit.model).group("recall")


class _Own(Gaussian):
    """A family that is not one of the package."""


def test_the_summary_gives_the_verdict_on_the_energy_of_an_own_family_and_where_it_was_asked_for(
    fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> Group:
        values: dict[str, Any] = {"relation": "equal", "witnesses": "two", "error": 2.0, "tolerance": 1.0}
        values["passed"] = False
        return Group({name: ([value], ("check",)) for name, value in values.items()}, {}, {"check": ["force"]})

    assert "does not match the likelihood" not in fit.summary_text()
    monkeypatch.setitem(derived.DERIVED, "verification", failing)
    verdict = "[problem] The energy does not match the likelihood: force failed. Please report this."
    own = replace(fit.model, family=_Own("isotropic"))
    assert verdict in Fit(fit.tree, own).summary_text()
    asked = Fit(fit.tree, fit.model)
    assert verdict not in asked.summary_text()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(derived, "shelf", lambda *_: None)  # another test has kept it
        assert not asked.group("verification")["passed"].all()
    assert verdict in asked.summary_text()


def test_a_group_that_a_fit_has_not_is_refused_with_the_reason(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    fit = Fit(fit.tree, fit.model)
    with pytest.raises(InputError, match="name: this fit has no group 'recal': it has posterior, "):
        fit.group("recal")

    def fail(*_: object) -> Group:
        raise InputError("recall: nothing moves")

    monkeypatch.setitem(derived.DERIVED, "recall", fail)
    with pytest.raises(InputError, match="name: this fit has no group 'recall': nothing moves"):
        fit.group("recall")
    assert "left_out" not in fit.tree.attrs


def test_the_command_writes_all_groups_where_that_is_asked_for(tmp_path: Path) -> None:
    words = "fit galaxy82 --covariance isotropic --weights dirichlet --components 2 --engine em --restarts 1 -o"
    assert main([*words.split(), str(tmp_path / "lean.nc")]) == 0
    assert main([*words.split(), str(tmp_path / "whole.nc"), "--complete"]) == 0
    lean, whole = (set(read_tree(tmp_path / name).children) for name in ("lean.nc", "whole.nc"))
    assert whole - lean == set(DERIVED)
