"""Each rule of the verdict speaks where it should, at each of its levels, and is silent just below its bar."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from probam.reports.summaries.diagnostics import RULES, advice, rule_table
from probam.reports.summaries.verdict import Level, verdict_of
from tests.reports.summaries.test_diagnostics import CD, autoregressive, fit, noise

POINT = np.array([[-7.5]])


def point(*ends: float, status: str = "converged", engine: str = "em") -> xr.DataTree:
    """A search whose starts ended at these objectives."""
    objective = np.array([[end - 1, end] for end in ends])
    return fit(
        POINT,
        engine=engine,
        optimisation={"objective": (objective, ("restart", "iteration"))},
        search_attributes={"status": status, "what": "log likelihood"},
    )


def climb(*, rising: bool, engine: str) -> xr.DataTree:
    """A noisy search that stopped at its limit."""
    trend = 0.1 * np.arange(1000) if rising else 0
    return fit(
        noise(1, 100) if engine == "svi" else POINT,
        engine=engine,
        optimisation={"objective": ((noise(1000) + trend)[None], ("restart", "iteration"))},
        search_attributes={"status": "max_steps", "what": "evidence lower bound"},
    )


def approximation(k_hat: float) -> xr.DataTree:
    objective = {"objective": (np.zeros((1, 2)), ("restart", "iteration"))}
    return fit(noise(1, 100), engine="svi", optimisation=objective, search_attributes={"pareto_k": k_hat})


def sampled(**stats: np.ndarray) -> xr.DataTree:
    return fit(noise(4, 500), stats=stats)


def diverged(count: int) -> xr.DataTree:
    return sampled(diverging=np.arange(2000).reshape(4, 500) < count)


def apart(gap: float) -> xr.DataTree:
    """Four chains, one of them ``gap`` lower."""
    return fit(noise(4, 500) - np.array([0, 0, 0, gap])[:, None])


def disagreeing(gap: float) -> xr.DataTree:
    alpha = noise(4, 500, seed=9) + np.array([0, 0, 0, gap])[:, None]
    return fit(noise(4, 500), posterior={"alpha": (alpha, CD)})


def process(occupied: int, share: float, bound: float | None = None, engine: str = "nuts") -> xr.DataTree:
    """A Dirichlet process of five memories, of which ``occupied`` hold data in a share of the draws."""
    counts = np.full((4, 500), 3)
    counts.T.flat[: round(2000 * share)] = occupied
    return fit(
        noise(4, 500), engine=engine, invariant={"num_occupied": counts}, weights="dp", truncation={"tv_bound": bound}
    )


def replicated(p_value: float) -> xr.DataTree:
    tree = fit(noise(4, 500))
    deviation = xr.DataArray([-6.0, 1.0], coords={"discrepancy": ["spread of a", "largest energy"]}, dims="discrepancy")
    aspect = xr.DataArray(["spread", "tails"], coords=deviation.coords, dims="discrepancy")
    attributes = {"p_value": p_value, "looked_at": '["spread", "tails"]', "num_replicates": 200}
    checked = xr.Dataset({"deviation": deviation, "aspect": aspect}, attrs=attributes)
    tree["predictive_check"] = xr.DataTree(checked.assign_attrs(num_rows=3, num_features=2))
    return tree


def verified(*passed: bool) -> xr.DataTree:
    checks = {"passed": (np.array(passed), ("check",)), "error": (np.zeros(2), ("check",))}
    return fit(noise(4, 500), verification=checks)


def not_finite() -> xr.DataTree:
    values = noise(4, 500)
    values[1, 3] = np.inf
    return fit(values)


SPEAKS: dict[tuple[str, Level], list[Callable[[], xr.DataTree]]] = {
    ("step limit", "warning"): [lambda: point(-5, -5, status="max_steps"), lambda: climb(rising=True, engine="clam")],
    ("stopped", "warning"): [lambda: fit(POINT, engine="em", status="stopped")],
    ("stopped", "note"): [lambda: fit(noise(4, 500), status="stopped")],
    ("search not finite", "problem"): [lambda: point(-5, status="non_finite")],
    ("degenerate", "problem"): [lambda: fit(POINT, engine="em", outcome="degenerate")],
    ("optimum found once", "warning"): [lambda: point(-5, -8.5), lambda: point(-110_079, -5, engine="gradient_em")],
    ("optimum found once", "note"): [
        lambda: point(-5, -7.5),
        lambda: point(-5, -5, -50),
        lambda: point(1, 9, engine="clam"),
    ],
    ("point estimate", "note"): [lambda: point(-5)],
    ("approximation misfit", "warning"): [lambda: approximation(0.71)],
    ("approximation", "note"): [lambda: approximation(0.5)],
    ("divergences", "warning"): [lambda: diverged(1), lambda: diverged(20)],
    ("divergences", "problem"): [lambda: diverged(21)],
    ("tree depth", "warning"): [lambda: sampled(tree_depth=np.where(np.arange(2000).reshape(4, 500) < 21, 10, 6))],
    ("slow energy", "warning"): [lambda: sampled(energy=np.cumsum(noise(4, 500), axis=1))],
    ("chains in different modes", "problem"): [lambda: apart(40.0)],
    ("one chain", "warning"): [lambda: fit(noise(1, 1000))],
    ("chains disagree", "warning"): [lambda: disagreeing(0.5)],
    ("chains disagree", "problem"): [
        lambda: disagreeing(2.0),
        lambda: fit(noise(4, 50), invariant={"num_occupied": np.repeat([3, 3, 4, 3], 50).reshape(4, 50)}),
    ],
    ("few effective draws", "warning"): [lambda: fit(autoregressive(4, 500, 0.9))],
    ("draws not finite", "problem"): [not_finite],
    ("truncation reached", "warning"): [lambda: process(5, 0.02)],
    ("truncation felt", "note"): [lambda: process(4, 0.5, bound=0.06)],
    ("data not reproduced", "warning"): [lambda: replicated(0.005)],
    ("data not reproduced", "note"): [lambda: replicated(0.01)],
    ("energy not verified", "problem"): [lambda: verified(True, False)],
}

SILENT: dict[str, list[Callable[[], xr.DataTree]]] = {
    "step limit": [
        lambda: point(-5, -5),
        lambda: climb(rising=False, engine="svi"),
        lambda: climb(rising=False, engine="clam"),
    ],
    "stopped": [lambda: fit(POINT, engine="em", status="converged"), lambda: fit(noise(4, 500), status="sampled")],
    "search not finite": [lambda: point(-5, -5)],
    "degenerate": [lambda: fit(POINT, engine="em", outcome="converged"), lambda: point(-5)],
    "optimum found once": [lambda: point(-5), lambda: climb(rising=False, engine="svi")],
    "point estimate": [lambda: fit(noise(4, 500))],
    "approximation misfit": [lambda: approximation(0.69), lambda: climb(rising=False, engine="svi")],
    "approximation": [lambda: fit(noise(4, 500)), lambda: point(-5)],
    "divergences": [lambda: diverged(0)],
    "tree depth": [lambda: sampled(tree_depth=np.where(np.arange(2000).reshape(4, 500) < 20, 10, 6))],
    "slow energy": [lambda: sampled(energy=noise(4, 500))],
    "chains in different modes": [lambda: apart(1.0)],
    "one chain": [lambda: fit(noise(2, 1000))],
    "chains disagree": [lambda: disagreeing(0.0)],
    "few effective draws": [lambda: fit(noise(4, 500))],
    "draws not finite": [lambda: fit(noise(4, 500))],
    "truncation reached": [lambda: process(5, 0.01), lambda: process(4, 1.0)],
    "truncation felt": [lambda: process(4, 0.5, bound=0.05), lambda: process(5, 0.02, bound=0.06)],
    "data not reproduced": [lambda: fit(noise(4, 500))],
    "energy not verified": [lambda: verified(True, True)],
}


def said(tree: xr.DataTree, rule: str) -> list[Level]:
    return [item.level for item in advice(tree) if item.rule == rule]


@pytest.mark.parametrize(
    ("rule", "level", "tree"),
    [(rule, level, tree) for (rule, level), trees in SPEAKS.items() for tree in trees],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_rule_speaks_beyond_its_bar(rule: str, level: Level, tree: Callable[[], xr.DataTree]) -> None:
    made = tree()
    assert said(made, rule) == [level]
    if level in ("warning", "problem"):
        assert verdict_of(advice(made)) != "good"


@pytest.mark.parametrize(
    ("rule", "tree"),
    [(rule, tree) for rule, trees in SILENT.items() for tree in trees],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_rule_is_silent_at_its_bar(rule: str, tree: Callable[[], xr.DataTree]) -> None:
    assert said(tree(), rule) == []


def test_every_rule_is_tested_at_each_of_its_levels_and_stands_in_the_documentation() -> None:
    assert {(rule.name, level) for rule in RULES for level in rule.levels} == set(SPEAKS)
    assert {rule.name for rule in RULES} == set(SILENT)
    text = (Path(__file__).parents[3] / "docs" / "inference.md").read_text(encoding="utf-8")
    assert f"<!-- rules -->\n\n{rule_table()}\n\n<!-- end of rules -->" in text


def test_the_sentence_on_replicated_data_names_what_was_looked_at_and_what_is_off() -> None:
    off, like = (
        next(item.text for item in advice(replicated(p)) if item.rule == "data not reproduced") for p in (0.005, 0.4)
    )
    for text in (off, like):
        assert "the spread of features and principal directions and the tails (3 rows and 2 features)" in text
    assert "(p = 0.005): spread of a (6 sd too small), largest energy (1 sd too large)" in off
    assert "look like the data (p = 0.4)" in like


@pytest.mark.parametrize(
    ("given", "advised"),
    [("{}", "0.9, then 0.99"), ('{"target_accept": 0.95}', "0.99"), ('{"target_accept": 0.99}', "")],
)
def test_divergences_are_answered_with_a_higher_target_than_the_fit_had(given: str, advised: str) -> None:
    tree = diverged(5)
    tree.attrs["engine_options"] = given
    text = next(item.text for item in advice(tree) if item.rule == "divergences")
    assert text.endswith("memory may be collapsing onto a few data: widen its prior or use fewer memories.")
    if advised:
        assert f"(option target_accept: {advised}). If divergences remain, a memory" in text
    else:
        assert "target_accept" not in text
        assert "may miss them. A memory" in text
