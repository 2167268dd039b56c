"""Can the posterior be trusted? Convergence of label-invariant quantities, and the verdict in plain words.

R-hat and ESS of a memory's own parameters mean nothing where labels switch; those of quantities that do not
change under renumbering do. Estimators are those of Vehtari et al. (2021, arXiv:1903.08008), from ``arviz_stats``.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import arviz_stats
import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float

from probam.reports.page import number
from probam.reports.summaries.quantities import (
    engine_kind,
    invariant_draws,
    last_values,
    options,
    quantity_name,
    truncation,
)
from probam.reports.tree import has, variable

__all__ = ["R_HAT_LIMIT", "Advice", "advice", "effective_draws", "invariant_summary"]

Level = Literal["good", "note", "warning", "problem"]

R_HAT_LIMIT = 1.01
_R_HAT_BAD = 1.05
_ESS_PER_CHAIN = 100
_E_BFMI = 0.3
_MODE_GAP = 3.0
"""Chains whose mean log densities lie further apart than so many within-chain sds sit in different modes."""

_arviz: Any = arviz_stats  # it has no types

_TOUCHED = 0.01
"""The truncation matters when this share of the draws uses the last free memory."""


@dataclass(frozen=True)
class Advice:
    """One verdict: ``good``, ``note`` (know it), ``warning`` (look at it) or ``problem`` (do not trust yet)."""

    level: Level
    text: str


def effective_draws(values: Float[np.ndarray, "C S"]) -> float:
    """Bulk ESS of one chain on its own, averaged over the chains; a chain that stands still counts as one draw.

    Unlike the pooled ESS it does not shrink where chains disagree, so it can say whether they do.
    """
    if values.shape[1] < 4:
        return float(values.shape[1])
    own = [float(_arviz.ess(_dataset(chain[None]))["q"]) if np.ptp(chain) > 0 else 1.0 for chain in values]
    return float(np.mean(own))


def _dataset(values: Float[np.ndarray, "C S"]) -> xr.Dataset:
    """One quantity as ArviZ wants it."""
    chains, draws = values.shape
    return xr.Dataset({"q": (("chain", "draw"), values)}, {"chain": np.arange(chains), "draw": np.arange(draws)})


def invariant_summary(tree: xr.DataTree) -> pd.DataFrame:
    """Mean, sd, Monte Carlo error, ESS and R-hat of the label-invariant quantities, one row each.

    Columns ``mean``, ``sd``, ``mcse``, ``ess_bulk``, ``ess_tail``, ``r_hat`` and ``note``. What is not defined is
    ``<NA>`` and the note says why: ``constant``, ``one draw``, ``one chain`` (no R-hat), ``fewer than four draws``,
    ``chains stuck`` (each chain constant at its own value, R-hat infinite), ``not finite``, ``independent
    draws`` (a fitted approximation: R-hat and ESS would say nothing about its error).
    """
    kind = engine_kind(tree)
    rows = {name: _row(values, kind) for name, values in invariant_draws(tree).items()}
    columns = ["mean", "sd", "mcse", "ess_bulk", "ess_tail", "r_hat"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=[*columns, "note"])
    return table.astype(dict.fromkeys(columns, "Float64") | {"note": "str"})


def _row(values: Float[np.ndarray, "C S"], kind: str) -> Sequence[float | str | None]:
    num_chains, num_draws = values.shape
    if not np.isfinite(values).all():
        return [None, None, None, None, None, None, "not finite"]
    mean = float(values.mean())
    if values.size == 1:
        return [mean, None, None, None, None, None, "one draw"]
    if np.ptp(values) == 0:
        return [mean, 0.0, 0.0, None, None, None, "constant"]
    sd = float(values.std(ddof=1))
    if kind == "approximation":
        return [mean, sd, sd / np.sqrt(values.size), None, None, None, "independent draws"]
    if num_draws < 4:
        return [mean, sd, None, None, None, None, "fewer than four draws"]
    if np.ptp(values, axis=1).max() == 0:
        return [mean, sd, None, None, None, np.inf, "chains stuck"]
    data = _dataset(values)
    mcse = float(_arviz.mcse(data)["q"])
    bulk = float(_arviz.ess(data, method="bulk")["q"])
    tail = float(_arviz.ess(data, method="tail")["q"])
    if num_chains == 1:
        return [mean, sd, mcse, bulk, tail, None, "one chain"]
    folded = np.abs(values - np.median(values))
    methods = ["z_scale"] + (["folded"] if np.ptp(folded) > 0 else [])  # a two-valued quantity folds to a constant
    with np.errstate(invalid="ignore", divide="ignore"):
        r_hats = [float(_arviz.rhat(data, method=method)["q"]) for method in methods]
    finite = [r_hat for r_hat in r_hats if not np.isnan(r_hat)]
    return [mean, sd, mcse, bulk, tail, max(finite, default=np.inf), ""]


def advice(tree: xr.DataTree) -> list[Advice]:
    """What a careful colleague would say about this fit, the gravest first; ``good`` alone when all is well."""
    kind = engine_kind(tree)
    checks = {
        "point": _point_estimate,
        "approximation": _approximation,
        "chains": _chains,
    }
    found = [*_finite(tree), *checks[kind](tree), *_truncation(tree), *_verification(tree)]
    order: list[Level] = ["problem", "warning", "note", "good"]
    if not any(item.level in ("problem", "warning") for item in found):
        found.append(Advice("good", _GOOD[kind]))
    return sorted(found, key=lambda item: order.index(item.level))


_GOOD = {
    "point": "The search ended as it should. It gives one best setting, without error bars.",
    "approximation": "The search for the approximation ended as it should. Its error bars are as a rule too small.",
    "chains": "The chains agree with each other, no trajectory diverged, and there are enough effective draws.",
}


def _finite(tree: xr.DataTree) -> Iterator[Advice]:
    bad = [name for name, values in invariant_draws(tree).items() if not np.isfinite(values).all()]
    if bad:
        yield Advice(
            "problem",
            f"{_listed(map(quantity_name, bad))} left the finite numbers in some draws. Check the data and the priors.",
        )


def _restarts(tree: xr.DataTree) -> Iterator[Advice]:
    """How the searches of an optimiser ended."""
    if not has(tree, "optimisation"):
        return
    group = tree["optimisation"]
    what = str(group.attrs.get("what", "objective"))
    status = str(group.attrs.get("status", ""))
    if "objective" not in group.data_vars:
        return
    objective = group["objective"].transpose("restart", "iteration").values.astype(np.float64)
    noisy = engine_kind(tree) == "approximation"
    if status == "max_steps" and (not noisy or _still_rising(objective)):
        yield Advice("warning", f"The search stopped at its limit before the {what} settled. Allow more steps.")
    elif status == "non_finite":
        yield Advice("problem", f"The {what} left the finite numbers. Lower the step size, or check the data.")
    last = last_values(objective)
    last = last[np.isfinite(last)]
    if noisy:
        return
    if len(last) > 1:
        tolerance = 1e-3 * max(1.0, abs(float(last.max())) * 1e-2)
        hits = int(np.sum(last >= last.max() - tolerance))
        if hits == 1:
            text = (
                f"The best of {len(last)} starts was found only once (next best {what} lower by "
                f"{number(float(last.max() - np.sort(last)[-2]), 3)}). A better optimum may exist: use more restarts."
            )
            yield Advice("note", text)
        else:
            yield Advice("note", f"{hits} of {len(last)} starts reached the best {what}.")


def _still_rising(objective: Float[np.ndarray, "R T"]) -> bool:
    """Whether the best restart of a noisy search gained more in its last tenth than its noise explains."""
    trace = objective[np.nanargmax(last_values(objective))]
    trace = trace[np.isfinite(trace)]
    tenth = len(trace) // 10
    if tenth < 5:
        return False
    last, before = trace[-tenth:], trace[-2 * tenth : -tenth]
    error = np.sqrt((last.var(ddof=1) + before.var(ddof=1)) / tenth)
    gain = last.mean() - before.mean()
    return bool(gain > 4 * error and gain > 1e-3 * np.ptp(trace))


def _point_estimate(tree: xr.DataTree) -> Iterator[Advice]:
    yield from _restarts(tree)
    yield Advice("note", "One setting says nothing of its uncertainty; for that fit the same model with engine nuts.")


def _approximation(tree: xr.DataTree) -> Iterator[Advice]:
    yield from _restarts(tree)
    k_hat = tree["optimisation"].attrs.get("pareto_k") if has(tree, "optimisation") else None
    if k_hat is not None and float(k_hat) > 0.7:
        yield Advice(
            "warning",
            f"The approximation misses part of the posterior (Pareto k-hat {float(k_hat):.2f}, above 0.7). "
            "Use engine nuts, or a richer guide, before quoting error bars.",
        )
    yield Advice(
        "note",
        "The draws come from a fitted approximation, which as a rule understates the uncertainty; agreement between "
        "draws says nothing about its error, so no R-hat is given. Engine nuts samples the posterior itself.",
    )


def _chains(tree: xr.DataTree) -> Iterator[Advice]:
    yield from _sampler(tree)
    gap = _modes(tree)
    if gap is not None:
        yield gap
    table = invariant_summary(tree)
    num_chains = int(tree["posterior"].sizes["chain"])
    if num_chains == 1:
        yield Advice("warning", "There is only one chain, so nothing shows whether another would agree. Run four.")
    r_hat = table["r_hat"].dropna()
    high = r_hat[r_hat > R_HAT_LIMIT].sort_values(ascending=False)
    if len(high):
        named = _listed(quantity_name(str(name)) for name in high.index)
        worst = "infinite" if np.isinf(high.iloc[0]) else f"{high.iloc[0]:.3f}"
        yield Advice(
            "problem" if high.iloc[0] > _R_HAT_BAD else "warning",
            f"The chains do not agree yet: R-hat exceeds {R_HAT_LIMIT} for {named}; the largest is {worst}. "
            "Run longer chains; if that does not help, there may be several modes.",
        )
    ess = table[["ess_bulk", "ess_tail"]].min(axis=1).dropna()
    needed = _ESS_PER_CHAIN * max(num_chains, 4)
    low = ess[ess < needed].sort_values()
    if len(low):
        factor = int(np.ceil(needed / max(float(low.iloc[0]), 1.0)))
        yield Advice(
            "warning",
            f"There are few effective draws: {low.iloc[0]:.0f} for {quantity_name(str(low.index[0]))}, where {needed} "
            f"are wanted ({len(low)} of {len(ess)} quantities fall short). Run about {factor} times longer.",
        )


def _sampler(tree: xr.DataTree) -> Iterator[Advice]:
    """Divergences, tree depth and E-BFMI of NUTS."""
    if not has(tree, "sample_stats"):
        return
    stats = tree["sample_stats"]
    if "diverging" in stats.data_vars:
        count, total = int(stats["diverging"].sum()), int(stats["diverging"].size)
        if count:
            noun = "trajectory" if count == 1 else "trajectories"
            yield Advice(
                "problem" if count > 0.01 * total else "warning",
                f"{count} of {total} {noun} diverged: the sampler met regions too sharply curved for its step, and the "
                "posterior may be missing there. Raise the target acceptance probability (0.9, then 0.99); if it "
                "stays, a memory may be shrinking onto a few data: widen its prior or use fewer memories.",
            )
    if "tree_depth" in stats.data_vars:
        limit = options(tree, "engine_options").get("max_tree_depth", 10)
        limit = int(limit) if isinstance(limit, int | float) else 10
        share = float((stats["tree_depth"] >= limit).mean())
        if share > _TOUCHED:
            yield Advice(
                "warning",
                f"{share:.0%} of the trajectories were cut at the greatest depth ({limit}): correct but slow. "
                "Standardise the data, or allow a greater depth.",
            )
    if "energy" in stats.data_vars and stats.sizes["draw"] > 3 and np.isfinite(stats["energy"]).all():
        energy = stats["energy"].transpose("chain", "draw").values.astype(np.float64)
        moves = np.ptp(energy, axis=1) > 0
        if moves.any():
            chosen = xr.Dataset(
                {"energy": (("chain", "draw"), energy[moves])},
                {"chain": np.flatnonzero(moves), "draw": np.arange(energy.shape[1])},
            )
            e_bfmi = _arviz.bfmi(xr.DataTree.from_dict({"sample_stats": chosen}))["energy"].values
            low = int(np.sum(e_bfmi < _E_BFMI))
            if low:
                yield Advice(
                    "warning",
                    f"{low} of {len(e_bfmi)} chains explore the energy poorly (E-BFMI down to {e_bfmi.min():.2f}, "
                    f"below {_E_BFMI}): heavy tails are likely undersampled. Longer runs or tighter priors help.",
                )


def _modes(tree: xr.DataTree) -> Advice | None:
    """Whether chains sit at log densities that no single mode explains."""
    draws = invariant_draws(tree)
    values = draws.get("lp", draws.get("log_lik"))
    if values is None or len(values) < 2 or not np.isfinite(values).all():
        return None
    within = float(np.sqrt(values.var(axis=1, ddof=1).mean())) if values.shape[1] > 1 else 0.0
    means = values.mean(axis=1)
    gap = float(np.ptp(means))
    if gap <= _MODE_GAP * within or gap == 0:
        return None
    best = np.flatnonzero(means > means.max() - _MODE_GAP * within)
    others = len(means) - len(best)
    sds = f"{gap / within:.0f} times their own spread" if within > 0 else "while each stands still"
    return Advice(
        "problem",
        f"The chains sit in different modes: their mean log densities differ by {gap:.1f} nats, {sds}. "
        f"{others} of {len(means)} chains are lower than the best. The draws together are no posterior: use more "
        "restarts for the start values, or a tempered sampler.",
    )


def _truncation(tree: xr.DataTree) -> Iterator[Advice]:
    if tree.attrs.get("weights") not in ("dp", "pyp"):
        return
    limit = int(tree.attrs.get("num_components", 0))
    draws = invariant_draws(tree)
    if limit and "num_occupied" in draws:
        share = float(np.mean(draws["num_occupied"] >= limit))
        if share > _TOUCHED:
            when = "" if engine_kind(tree) == "point" else f"in {share:.0%} of the draws "
            yield Advice(
                "warning",
                f"The truncation binds: {when}all {limit} memories are occupied, so the data ask for more. Refit with "
                f"more, say {2 * limit}.",
            )
            return
    bound = truncation(tree).get("tv_bound")
    if bound is not None and bound > 0.05:
        yield Advice(
            "note",
            f"Before seeing the data, cutting the process at {limit} memories may change their law by up to "
            f"{bound:.2g} in total variation. What counts afterwards is whether all memories are occupied.",
        )


def _verification(tree: xr.DataTree) -> Iterator[Advice]:
    if not has(tree, "verification", "passed"):
        return
    passed = variable(tree, "verification", "passed")
    failed = [str(name) for name in passed["check"].values[~passed.values.astype(bool)]]
    if failed:
        yield Advice("problem", f"The energy is not the likelihood here: {_listed(failed)} failed. Please report it.")


def _listed(names: Iterable[str], most: int = 4) -> str:
    listed = list(names)
    shown = ", ".join(listed[:most])
    return shown if len(listed) <= most else f"{shown} and {len(listed) - most} more"
