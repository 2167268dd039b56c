"""Verdicts on chains whose behaviour is known: well mixed, stuck, in two modes, too short, divergent."""

import warnings
from typing import Any

import numpy as np
import pytest
import xarray as xr

from probam.reports.summaries.convergence import invariant_summary
from probam.reports.summaries.diagnostics import advice
from probam.reports.summaries.quantities import (
    engine_kind,
    invariant_draws,
    last_values,
    options,
    quantity_name,
    truncation,
)
from probam.reports.tree import build_tree

CD = ("chain", "draw")


def fit(
    lp: np.ndarray,
    *,
    engine: str = "nuts",
    stats: dict[str, Any] | None = None,
    invariant: dict[str, Any] | None = None,
    posterior: dict[str, Any] | None = None,
    optimisation: dict[str, Any] | None = None,
    verification: dict[str, Any] | None = None,
    search_attributes: dict[str, Any] | None = None,
    **attributes: Any,
) -> xr.DataTree:
    """A fit whose chains are given."""
    return build_tree(
        attributes={"probam_version": "0", "engine": engine, "weights": "dirichlet", "num_components": 5, **attributes},
        data=np.zeros((40, 2)),
        columns=["a", "b"],
        center=np.zeros(2),
        scale=np.ones(2),
        posterior={"weights": (np.ones((*lp.shape, 5)) / 5, (*CD, "memory")), **(posterior or {})},
        sample_stats={"lp": (lp, CD), **{name: (values, CD) for name, values in (stats or {}).items()}},
        invariant={name: (values, (*CD, "pair")[: np.ndim(values)]) for name, values in (invariant or {}).items()},
        optimisation=optimisation,
        verification=verification,
        coordinates={"check": ["A2", "A9"]},
        group_attributes={"optimisation": search_attributes or {}} if optimisation else {},
    )


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def autoregressive(num_chains: int, num_draws: int, rho: float) -> np.ndarray:
    """A stationary AR(1) chain: the bulk ESS of its mean is S (1 - rho) / (1 + rho)."""
    steps = noise(num_chains, num_draws, seed=3)
    values = np.empty_like(steps)
    values[:, 0] = steps[:, 0]
    for t in range(1, num_draws):
        values[:, t] = rho * values[:, t - 1] + np.sqrt(1 - rho**2) * steps[:, t]
    return values


def verdicts(tree: xr.DataTree, level: str) -> str:
    return "\n".join(item.text for item in advice(tree) if item.level == level)


def test_independent_draws_have_full_effective_size_and_agree() -> None:
    values = noise(4, 1000)
    row = invariant_summary(fit(values)).loc["lp"]
    assert row["mean"] == pytest.approx(values.mean(), rel=1e-12)
    assert row["sd"] == pytest.approx(values.std(ddof=1), rel=1e-12)
    assert row["mcse"] == pytest.approx(values.std(ddof=1) / np.sqrt(4000), rel=0.1)
    assert row["ess_bulk"] == pytest.approx(4000, rel=0.15)
    assert row["ess_tail"] == pytest.approx(4000, rel=0.15)
    assert abs(row["r_hat"] - 1) < 0.005
    assert row["note"] == ""
    assert [item.level for item in advice(fit(values))] == ["good"]


def test_the_effective_size_of_an_ar1_chain_is_that_of_its_formula() -> None:
    row = invariant_summary(fit(autoregressive(4, 5000, 0.8))).loc["lp"]
    assert row["ess_bulk"] == pytest.approx(20000 * 0.2 / 1.8, rel=0.15)


def test_a_constant_is_called_constant_without_a_warning() -> None:
    tree = fit(noise(4, 50), invariant={"num_occupied": np.full((4, 50), 4)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        row = invariant_summary(tree).loc["num_occupied"]
    assert (row["mean"], row["sd"], row["mcse"], row["note"]) == (4, 0, 0, "constant")
    assert row[["ess_bulk", "ess_tail", "r_hat"]].isna().all()


@pytest.mark.parametrize("share", [0.5, 0.02])
def test_a_two_valued_quantity_gets_numbers_without_a_warning(share: float) -> None:
    values = (np.random.default_rng(0).random((4, 400)) < share).astype(int) + 3
    row = invariant_summary(fit(noise(4, 400), invariant={"num_occupied": values})).loc["num_occupied"]
    assert np.isfinite(row[["ess_bulk", "ess_tail", "r_hat"]].to_numpy(dtype=float)).all()
    assert row["r_hat"] < 1.02


def test_chains_stuck_at_their_own_values_have_infinite_r_hat() -> None:
    stuck = np.repeat([3, 3, 4, 3], 50).reshape(4, 50)
    tree = fit(noise(4, 50), invariant={"num_occupied": stuck})
    row = invariant_summary(tree).loc["num_occupied"]
    assert row["r_hat"] == np.inf
    assert row["note"] == "chains stuck"
    assert "memories that hold data; the largest is infinite" in verdicts(tree, "problem")


def test_a_chain_far_from_the_others_raises_r_hat_and_sits_in_another_mode() -> None:
    values = noise(4, 500) + np.array([0, 0, 0, -40.0])[:, None]
    tree = fit(values)
    assert invariant_summary(tree)["r_hat"].max() > 1.5
    problem = verdicts(tree, "problem")
    assert "different modes" in problem
    assert "40" in problem
    assert "1 of 4 chains are lower" in problem


def test_well_mixed_chains_are_in_one_mode() -> None:
    assert "modes" not in verdicts(fit(autoregressive(4, 500, 0.5)), "problem")


def test_one_chain_claims_no_r_hat_and_is_asked_for_more() -> None:
    tree = fit(noise(1, 1000))
    row = invariant_summary(tree).loc["lp"]
    assert row["note"] == "one chain"
    assert row["ess_bulk"] > 800
    assert row[["r_hat"]].isna().all()
    assert "only one chain" in verdicts(tree, "warning")


def test_a_point_estimate_claims_nothing_but_its_value() -> None:
    tree = fit(np.array([[-7.5]]), engine="em")
    row = invariant_summary(tree).loc["lp"]
    assert engine_kind(tree) == "point"
    assert list(row[["mean", "note"]]) == [-7.5, "one draw"]
    assert row[["sd", "mcse", "ess_bulk", "ess_tail", "r_hat"]].isna().all()
    assert [item.level for item in advice(tree)] == ["note", "good"]


def test_draws_of_an_approximation_claim_no_convergence() -> None:
    tree = fit(noise(1, 400), engine="svi")
    row = invariant_summary(tree).loc["lp"]
    assert row["note"] == "independent draws"
    assert row[["ess_bulk", "r_hat"]].isna().all()
    assert row["mcse"] == pytest.approx(row["sd"] / 20, rel=1e-12)
    assert "understates the uncertainty" in verdicts(tree, "note")


def test_three_draws_are_too_few() -> None:
    assert invariant_summary(fit(noise(2, 3))).loc["lp", "note"] == "fewer than four draws"


def test_numbers_that_are_not_finite_are_reported_and_not_averaged() -> None:
    values = noise(4, 100)
    values[2, 7] = np.nan
    tree = fit(values)
    assert invariant_summary(tree).loc["lp", "note"] == "not finite"
    assert "Some draws are not finite: log joint density." in verdicts(tree, "problem")


def test_quantities_with_an_index_get_a_row_each() -> None:
    together = np.random.default_rng(0).random((2, 40, 3))
    tree = fit(
        noise(2, 40),
        invariant={"together": together},
        posterior={"alpha": (noise(2, 40), CD), "loc": (noise(2, 40, 5), (*CD, "memory"))},
    )
    draws = invariant_draws(tree)
    assert list(draws) == ["lp", "together[0]", "together[1]", "together[2]", "alpha"]
    np.testing.assert_array_equal(draws["together[1]"], together[:, :, 1])


def test_few_effective_draws_are_counted_and_the_remedy_is_sized() -> None:
    tree = fit(autoregressive(4, 500, 0.9))
    ess = float(invariant_summary(tree)[["ess_bulk", "ess_tail"]].to_numpy(dtype=float).min())
    assert ess < 400
    text = verdicts(tree, "warning")
    assert f"effective sample size is low: {ess:.0f} for log joint density, 400 recommended" in text
    assert f"about {int(np.ceil(400 / ess))} times longer" in text


def test_divergences_are_counted_and_many_are_a_problem() -> None:
    diverging = np.zeros((4, 500), bool)
    diverging[0, :3] = True
    assert "3 of 2000 trajectories diverged" in verdicts(fit(noise(4, 500), stats={"diverging": diverging}), "warning")
    diverging[1, :100] = True
    assert "103 of 2000 trajectories diverged" in verdicts(
        fit(noise(4, 500), stats={"diverging": diverging}), "problem"
    )


def test_saturated_trees_are_reported_at_the_limit_of_the_run() -> None:
    depth = np.full((4, 500), 6)
    assert "maximum tree depth" not in verdicts(fit(noise(4, 500), stats={"tree_depth": depth}), "warning")
    tree = fit(noise(4, 500), stats={"tree_depth": depth}, engine_options={"max_tree_depth": 6})
    assert "100% of the trajectories reached the maximum tree depth (6)" in verdicts(tree, "warning")


def test_a_slow_energy_is_reported_by_its_bfmi() -> None:
    walk = np.cumsum(noise(4, 500), axis=1)
    e_bfmi = (np.diff(walk, axis=1) ** 2).sum(axis=1) / ((walk - walk.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    assert (e_bfmi < 0.25).all()
    assert "4 of 4 chains explore the energy poorly" in verdicts(fit(noise(4, 500), stats={"energy": walk}), "warning")
    assert "explore the energy" not in verdicts(fit(noise(4, 500), stats={"energy": noise(4, 500)}), "warning")
    assert "explore the energy" not in verdicts(fit(noise(4, 500), stats={"energy": np.ones((4, 500))}), "warning")


def test_a_truncation_that_binds_is_reported_for_processes_only() -> None:
    occupied = {"num_occupied": np.where(noise(4, 200) > 1, 5, 4)}
    tree = fit(noise(4, 200), invariant=occupied, weights="dp", truncation={"tv_bound": 0.3, "note": "x"})
    text = verdicts(tree, "warning")
    assert f"in {np.mean(occupied['num_occupied'] == 5):.0%} of the draws all 5 memories are occupied" in text
    assert "Refit with more, say 10" in text
    free = {"num_occupied": np.where(noise(4, 200) > 1, 4, 3)}
    tree = fit(noise(4, 200), invariant=free, weights="dp", truncation={"tv_bound": 0.3, "note": "x"})
    assert "truncation" not in verdicts(tree, "warning")
    assert "0.3 in total variation" in verdicts(tree, "note")
    assert truncation(tree) == {"tv_bound": 0.3}
    assert "truncation" not in verdicts(fit(noise(4, 200), invariant=occupied, truncation=None), "warning")


def test_a_failed_check_is_a_problem_by_name() -> None:
    verification = {"passed": (np.array([True, False]), ("check",)), "error": (np.array([0.0, 1.0]), ("check",))}
    assert "A9 failed" in verdicts(fit(noise(4, 500), verification=verification), "problem")


def search(objective: list[list[float]], status: str, engine: str = "em") -> xr.DataTree:
    values = np.array(objective)
    lp = np.array([[-7.5]]) if engine == "em" else noise(1, 100)
    return fit(
        lp,
        engine=engine,
        optimisation={"objective": (values, ("restart", "iteration"))},
        search_attributes={"status": status, "what": "log likelihood"},
    )


def test_the_ends_of_searches_are_compared() -> None:
    nan = float("nan")
    assert last_values(np.array([[1.0, 2.0, nan], [nan, nan, nan], [3.0, 4.0, 5.0]])).tolist()[::2] == [2.0, 5.0]
    agree = search([[-9, -5, nan], [-8, -7, -5.0], [-9, -8, -6]], "converged")
    assert "2 of 3 starts reached the best log likelihood" in verdicts(agree, "note")
    alone = search([[-9, -5, nan], [-8, -7, -6.0]], "converged")
    assert "Only one of 2 starts reached the best log likelihood; the next one is lower by 1." in verdicts(
        alone, "note"
    )
    cut = search([[-9, -5, -4.0]], "max_steps")
    assert "reached its step limit" in verdicts(cut, "warning")


def test_a_noisy_search_is_judged_by_its_trend_and_not_by_its_budget() -> None:
    t = np.arange(1000)
    settled = -100 * np.exp(-t / 50) + noise(1000)
    rising = -100 + 0.1 * t + noise(1000)
    assert "reached its step limit" not in verdicts(search([settled.tolist()], "max_steps", "svi"), "warning")
    assert "reached its step limit" in verdicts(search([rising.tolist()], "max_steps", "svi"), "warning")


def test_json_attributes_that_are_none_read_as_empty() -> None:
    tree = fit(noise(2, 20), truncation=None, engine_options="not JSON {", versions=[1, 2])
    assert options(tree, "truncation") == options(tree, "engine_options") == options(tree, "versions") == {}
    assert options(tree, "absent") == {}


def test_a_genuine_posterior_is_called_good_and_its_first_draws_are_not(posterior_tree: xr.DataTree) -> None:
    assert [item.level for item in advice(posterior_tree)] == ["good"]
    short = posterior_tree.copy()
    for group in ("posterior", "sample_stats", "invariant"):
        short[group] = posterior_tree[group].to_dataset().isel(draw=slice(0, 25))
    assert "effective sample size is low" in verdicts(short, "warning")


def test_names_of_quantities_are_words() -> None:
    assert quantity_name("lp") == "log joint density"
    assert quantity_name("probe_energy[2]") == "energy at row 2"
    assert quantity_name("together[0]") == "co-clustering of pair 0"
    assert quantity_name("together[7-12]") == "co-clustering of rows 7 and 12"
    assert quantity_name("alpha") == "alpha"


def test_pairs_are_named_by_the_rows_that_are_followed(posterior_tree: xr.DataTree) -> None:
    tree = posterior_tree.copy()
    tree["invariant"] = tree["invariant"].to_dataset().isel(probe=[0, 1, 0]).assign_coords(probe=[31, 4, 15])
    names = [name for name in invariant_draws(tree) if name.startswith("together")]
    assert names == ["together[31-15]", "together[4-31]", "together[15-4]"]
