"""Nothing that is computed after a fit can lose it: what fails is left out, and file and report say why."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from numpyro.distributions import Distribution

import probam.fits.derived as derived
import probam.fits.fit as api
import probam.fits.groups as groups
from probam.errors import NumericalError
from probam.family import Family, register
from probam.fits.fitted import Fit
from probam.reports.html import report_html

RNG = np.random.default_rng(1)
POSITIVE = np.r_[RNG.gamma(4, 0.25, (40, 2)), RNG.gamma(30, 0.2, (40, 2))]
COUNTS = np.r_[RNG.poisson([2, 9], (40, 2)), RNG.poisson([12, 1], (40, 2))].astype(float)


@register
@dataclass(frozen=True)
class GammaFeatures(Family):
    """Positive numbers, as a person would write them."""

    name: ClassVar[str] = "gamma_features"
    location: ClassVar[str] = "mean"
    as_they_are: ClassVar[bool] = True

    def prior(self, x: np.ndarray) -> dict[str, Distribution]:
        return {
            "mean": dist.LogNormal(jnp.log(jnp.asarray(x.mean(0))), 1.0).to_event(1),
            "shape": dist.LogNormal(jnp.full(x.shape[1], 1.0), 1.0).to_event(1),
        }

    def bank(self, params: Mapping[str, jax.Array]) -> Distribution:
        return dist.Gamma(params["shape"], params["shape"] / params["mean"]).to_event(1)


@register
@dataclass(frozen=True)
class CountFeatures(Family):
    """Counts, as a person would write them."""

    name: ClassVar[str] = "count_features"
    location: ClassVar[str] = "rate"
    as_they_are: ClassVar[bool] = True

    def prior(self, x: np.ndarray) -> dict[str, Distribution]:
        return {"rate": dist.Gamma(jnp.ones(x.shape[1]), 1 / jnp.asarray(x.mean(0) + 0.1)).to_event(1)}

    def bank(self, params: Mapping[str, jax.Array]) -> Distribution:
        return dist.Poisson(params["rate"]).to_event(1)


def fitted(x: np.ndarray, family: Family | None = None, **options: object) -> Fit:
    model = (
        {"covariance": "diagonal", "engine": "em"} if family is None else {"family": family, "engine": "gradient_em"}
    )
    return api.fit(x, **model, weights="dirichlet", components=2, seed=0, **options)


@pytest.mark.parametrize(("family", "x"), [(GammaFeatures(), POSITIVE), (CountFeatures(), COUNTS)])
def test_families_on_positive_numbers_and_counts_are_fitted_recalled_and_reported(
    family: Family, x: np.ndarray, tmp_path: Path
) -> None:
    fit = fitted(x, family)
    assert "left_out" not in fit.to_datatree().attrs
    fit.report(tmp_path / "report.html")
    assert "The energy landscape and recall" in (tmp_path / "report.html").read_text()
    energy = fit.group("recall")["grid_energy"].values
    assert np.isfinite(energy).any()
    assert np.isnan(energy).any()  # the plane reaches beyond 0
    recalled = fit.recall(x)
    assert bool(recalled["converged"].all())
    assert (recalled["steps"].values > 1).any()
    assert (recalled["state"].values >= 0).all()
    assert (recalled["energy"].values <= fit.energy(x) + 1e-9).all()
    assert len(np.unique(recalled["state"].values.round(3), axis=0)) <= 4


@pytest.mark.parametrize("name", ["partition_group", "predictive_group", "recall_group", "verification_group"])
@pytest.mark.parametrize("error", [NumericalError("made to fail"), NotImplementedError("made to fail")])
def test_a_derived_group_that_fails_is_left_out_with_its_reason(
    name: str, error: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: object) -> groups.Group:
        raise error

    if name in ("recall_group", "verification_group"):
        monkeypatch.setitem(derived.DERIVED, name.removesuffix("_group"), fail)
    else:
        monkeypatch.setattr(groups, name, fail)
    fit = fitted(POSITIVE, complete=True)
    group = {"predictive_group": "posterior_predictive"}.get(name, name.removesuffix("_group"))
    reasons = json.loads(fit.tree.attrs["left_out"])
    assert list(reasons) == [group]
    assert reasons[group].endswith("made to fail")
    assert group not in fit.tree.children
    fit.save(tmp_path / "fit.nc")
    loaded = api.load(tmp_path / "fit.nc")
    np.testing.assert_array_equal(loaded.predict(POSITIVE)["label"], fit.predict(POSITIVE)["label"])
    assert f"(group {group})" in report_html(loaded.tree)
    assert f"(group {group}): " in loaded.summary_text()


def test_a_bank_without_a_variance_is_fitted() -> None:
    class Opaque(dist.Gamma):
        @property
        def variance(self) -> jax.Array:
            raise NotImplementedError

    @dataclass(frozen=True)
    class OpaqueFeatures(GammaFeatures):
        name: ClassVar[str] = "opaque_features"

        def bank(self, params: Mapping[str, jax.Array]) -> Distribution:
            return Opaque(params["shape"], params["shape"] / params["mean"]).to_event(1)

    fit = fitted(POSITIVE, OpaqueFeatures())
    np.testing.assert_array_equal(fit.tree["memory"]["sd"], 0)


def test_the_cap_on_replicated_values_holds_for_one_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fitted(POSITIVE).tree["posterior_predictive"].sizes["draw"] == 8
    monkeypatch.setattr(groups, "_REPLICATED", 3 * POSITIVE.size)
    assert fitted(POSITIVE).tree["posterior_predictive"].sizes["draw"] == 3
