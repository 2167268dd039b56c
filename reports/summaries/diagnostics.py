"""Can the posterior be trusted? The verdicts on a fit, in plain words.

:func:`diagnose` reads the label-invariant draws from the tree once; every check below looks at those, at their summary
(:mod:`probam.reports.summaries.convergence`), or at what the engine says of its own run.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float, Int

from probam.reports.page import number
from probam.reports.summaries.convergence import R_HAT_LIMIT, e_bfmi, summarise
from probam.reports.summaries.quantities import (
    EngineKind,
    InvariantDraws,
    engine_kind,
    invariant_draws,
    last_values,
    options,
    quantity_name,
    truncation,
)
from probam.reports.summaries.reproduction import reproduction
from probam.reports.tree import has, variable

__all__ = ["Advice", "Diagnosis", "Level", "advice", "diagnose"]

Level = Literal["problem", "warning", "note", "good"]

_R_HAT_BAD = 1.05
_ESS_PER_CHAIN = 100
_E_BFMI = 0.3
_MODE_GAP = 3.0
"""Chains whose mean log densities lie further apart than so many within-chain sds sit in different modes."""

_TOUCHED = 0.01
"""The truncation matters when this share of the draws uses the last free memory."""


@dataclass(frozen=True)
class Advice:
    """One verdict: ``good``, ``note`` (know it), ``warning`` (look at it) or ``problem`` (do not trust yet)."""

    level: Level
    text: str


class Diagnosis(NamedTuple):
    """What tells whether a fit can be trusted; the label-invariant draws are read from its tree once."""

    kind: EngineKind
    draws: InvariantDraws
    summary: pd.DataFrame  # of these draws: one row a quantity
    advice: list[Advice]  # the gravest first


def diagnose(tree: xr.DataTree) -> Diagnosis:
    """The label-invariant quantities of a fit, their summary, and the verdicts on them."""
    kind, draws = engine_kind(tree), invariant_draws(tree)
    summary = summarise(draws, kind)
    return Diagnosis(kind, draws, summary, _advice(tree, kind, draws, summary))


def advice(tree: xr.DataTree) -> list[Advice]:
    """What a careful colleague would say about this fit, the gravest first; ``good`` alone when all is well."""
    return diagnose(tree).advice


def _advice(tree: xr.DataTree, kind: EngineKind, draws: InvariantDraws, summary: pd.DataFrame) -> list[Advice]:
    """All verdicts, the gravest first; ``good`` where there is neither a problem nor a warning."""
    if kind == "point":
        by_kind = _point_estimate(tree)
    elif kind == "approximation":
        by_kind = _approximation(tree)
    else:
        by_kind = _chains(tree, draws, summary)
    verdicts = [*_finite(draws), *by_kind, *_truncation(tree, draws), *_reproduced(tree), *_verification(tree)]
    if not any(item.level in ("problem", "warning") for item in verdicts):
        verdicts.append(Advice("good", _GOOD[kind]))
    return sorted(verdicts, key=lambda item: get_args(Level).index(item.level))


_GOOD = {
    "point": "The search ended without problems. It gives a point estimate, without error bars.",
    "approximation": "The approximation was fitted without problems. Its error bars are usually too small.",
    "chains": "The chains agree with each other, no trajectory diverged, and there are enough effective draws.",
}


def _finite(draws: InvariantDraws) -> Iterator[Advice]:
    bad = [name for name, values in draws.items() if not np.isfinite(values).all()]
    if bad:
        yield Advice(
            "problem",
            f"Some draws are not finite: {_listed(map(quantity_name, bad))}. Check the data and the priors.",
        )


def _search(tree: xr.DataTree) -> Iterator[Advice]:
    """How the search of an optimiser ended, and how many of its starts found the best optimum."""
    if not has(tree, "optimisation", "objective"):
        return
    group = tree["optimisation"]
    what = str(group.attrs.get("what", "objective"))
    status = str(group.attrs.get("status", ""))
    objective = group["objective"].transpose("restart", "iteration").values.astype(np.float64)
    noisy = engine_kind(tree) == "approximation"
    if status == "max_steps" and (not noisy or _still_rising(objective)):
        yield Advice("warning", f"The search reached its step limit before the {what} settled. Allow more steps.")
    elif status == "non_finite":
        yield Advice("problem", f"The {what} became infinite or NaN. Lower the step size, or check the data.")
    if not noisy:
        yield from _restarts(last_values(objective), what)


def _restarts(last: Float[np.ndarray, " R"], what: str) -> Iterator[Advice]:
    """How many starts reached the best objective."""
    last = np.sort(last[np.isfinite(last)])
    if len(last) < 2:
        return
    best = float(last[-1])
    hits = int(np.sum(last >= best - 1e-3 * max(1.0, abs(best) * 1e-2)))
    if hits == 1:
        yield Advice(
            "note",
            f"Only one of {len(last)} starts reached the best {what}; the next one is lower by "
            f"{number(best - float(last[-2]), 3)}. A better optimum may exist: use more restarts.",
        )
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
    yield from _search(tree)
    yield Advice(
        "note", "A point estimate has no uncertainty. To get a posterior, fit the same model with engine nuts."
    )


def _approximation(tree: xr.DataTree) -> Iterator[Advice]:
    yield from _search(tree)
    k_hat = tree["optimisation"].attrs.get("pareto_k") if has(tree, "optimisation") else None
    if k_hat is not None and float(k_hat) > 0.7:
        yield Advice(
            "warning",
            f"The approximation misses part of the posterior (Pareto k-hat {float(k_hat):.2f}, above 0.7). "
            "Do not report its error bars; use engine nuts or a richer guide.",
        )
    yield Advice(
        "note",
        "The draws come from a fitted approximation, which usually understates the uncertainty. R-hat is not given, "
        "because agreement between draws says nothing about this error. Engine nuts samples the posterior itself.",
    )


def _chains(tree: xr.DataTree, draws: InvariantDraws, summary: pd.DataFrame) -> Iterator[Advice]:
    yield from _sampler(tree)
    yield from _modes(draws)
    num_chains = int(tree["posterior"].sizes["chain"])
    if num_chains == 1:
        yield Advice("warning", "There is only one chain, so agreement between chains cannot be checked. Run four.")
    yield from _agreement(summary)
    yield from _effective_size(summary, num_chains)


def _agreement(summary: pd.DataFrame) -> Iterator[Advice]:
    """Whether the chains agree, by R-hat."""
    r_hat = summary["r_hat"].dropna()
    high = r_hat[r_hat > R_HAT_LIMIT].sort_values(ascending=False)
    if len(high):
        named = _listed(quantity_name(str(name)) for name in high.index)
        worst = "infinite" if np.isinf(high.iloc[0]) else f"{high.iloc[0]:.3f}"
        yield Advice(
            "problem" if high.iloc[0] > _R_HAT_BAD else "warning",
            f"The chains do not agree yet: R-hat exceeds {R_HAT_LIMIT} for {named}; the largest is {worst}. "
            "Run longer chains; if that does not help, there may be several modes.",
        )


def _effective_size(summary: pd.DataFrame, num_chains: int) -> Iterator[Advice]:
    """Whether there are enough effective draws, and if not, how many more would do."""
    ess = summary[["ess_bulk", "ess_tail"]].min(axis=1).dropna()
    needed = _ESS_PER_CHAIN * max(num_chains, 4)
    low = ess[ess < needed].sort_values()
    if len(low):
        factor = int(np.ceil(needed / max(float(low.iloc[0]), 1.0)))
        yield Advice(
            "warning",
            f"The effective sample size is low: {low.iloc[0]:.0f} for {quantity_name(str(low.index[0]))}, {needed} "
            f"recommended ({len(low)} of {len(ess)} quantities are below). Run about {factor} times longer.",
        )


def _sampler(tree: xr.DataTree) -> Iterator[Advice]:
    """What NUTS says of itself: divergences, tree depth and E-BFMI."""
    if not has(tree, "sample_stats"):
        return
    stats = tree["sample_stats"].to_dataset()
    if "diverging" in stats:
        yield from _divergences(int(stats["diverging"].sum()), int(stats["diverging"].size))
    if "tree_depth" in stats:
        limit = options(tree, "engine_options").get("max_tree_depth", 10)
        yield from _tree_depth(stats["tree_depth"].values, int(limit) if isinstance(limit, int | float) else 10)
    if "energy" in stats:
        yield from _energy(stats["energy"].transpose("chain", "draw").values.astype(np.float64))


def _divergences(count: int, total: int) -> Iterator[Advice]:
    if count:
        noun = "trajectory" if count == 1 else "trajectories"
        yield Advice(
            "problem" if count > 0.01 * total else "warning",
            f"{count} of {total} {noun} diverged: parts of the posterior are too sharply curved for the step size, and "
            "the draws may miss them. Raise the target acceptance probability (0.9, then 0.99). If divergences remain, "
            "a memory may be collapsing onto a few data: widen its prior or use fewer memories.",
        )


def _tree_depth(depth: Int[np.ndarray, "C S"], limit: int) -> Iterator[Advice]:
    share = float((depth >= limit).mean())
    if share > _TOUCHED:
        yield Advice(
            "warning",
            f"{share:.0%} of the trajectories reached the maximum tree depth ({limit}): the draws are valid but slow. "
            "Standardise the data, or raise max_tree_depth.",
        )


def _energy(energy: Float[np.ndarray, "C S"]) -> Iterator[Advice]:
    """Whether a chain explores the energy, by E-BFMI; chains that stand still have none."""
    if energy.shape[1] < 4 or not np.isfinite(energy).all():
        return
    fractions = e_bfmi(energy)
    low = int(np.sum(fractions < _E_BFMI))
    if low:
        yield Advice(
            "warning",
            f"{low} of {len(fractions)} chains explore the energy poorly (E-BFMI down to {fractions.min():.2f}, "
            f"below {_E_BFMI}): heavy tails may be undersampled. Run longer chains or use tighter priors.",
        )


def _modes(draws: InvariantDraws) -> Iterator[Advice]:
    """Whether chains sit at log densities that no single mode explains."""
    values = draws.get("lp", draws.get("log_lik"))
    if values is None or len(values) < 2 or not np.isfinite(values).all():
        return
    within = float(np.sqrt(values.var(axis=1, ddof=1).mean())) if values.shape[1] > 1 else 0.0
    means = values.mean(axis=1)
    gap = float(np.ptp(means))
    if gap <= _MODE_GAP * within or gap == 0:
        return
    best = np.flatnonzero(means > means.max() - _MODE_GAP * within)
    others = len(means) - len(best)
    sds = f"{gap / within:.0f} times their own spread" if within > 0 else "while each stands still"
    yield Advice(
        "problem",
        f"The chains sit in different modes: their mean log densities differ by {gap:.1f} nats, {sds}. "
        f"{others} of {len(means)} chains are lower than the best. The pooled draws do not represent the posterior: "
        "use more restarts for the start values, or a tempered sampler.",
    )


def _truncation(tree: xr.DataTree, draws: InvariantDraws) -> Iterator[Advice]:
    if tree.attrs.get("weights") not in ("dp", "pyp"):
        return
    limit = int(tree.attrs.get("num_components", 0))
    if limit and "num_occupied" in draws:
        share = float(np.mean(draws["num_occupied"] >= limit))
        if share > _TOUCHED:
            when = "" if engine_kind(tree) == "point" else f"in {share:.0%} of the draws "
            yield Advice(
                "warning",
                f"The truncation is too low: {when}all {limit} memories are occupied. Refit with more, say "
                f"{2 * limit}.",
            )
            return
    bound = truncation(tree).get("tv_bound")
    if bound is not None and bound > 0.05:
        yield Advice(
            "note",
            f"The truncation at {limit} memories changes the prior distribution of the data by up to {bound:.2g} in "
            "total variation. After the fit, what matters is whether all memories are occupied.",
        )


def _reproduced(tree: xr.DataTree) -> Iterator[Advice]:
    """Whether the fit reproduces its data."""
    found = reproduction(tree)
    if found is None:
        return
    if found.is_reproduced:
        yield Advice("note", f"Replicated data look like the data (p = {found.p_value:.2g}) in {found.what}.")
    else:
        yield Advice(
            "warning",
            f"The fit does not reproduce the data (p = {found.p_value:.2g}): {found.where}. "
            f"Looked at were {found.what}. Try more memories, another covariance or family, or a weaker prior.",
        )


def _verification(tree: xr.DataTree) -> Iterator[Advice]:
    if not has(tree, "verification", "passed"):
        return
    passed = variable(tree, "verification", "passed")
    failed = [str(name) for name in passed["check"].values[~passed.values.astype(bool)]]
    if failed:
        yield Advice(
            "problem", f"The energy does not match the likelihood: {_listed(failed)} failed. Please report this."
        )


def _listed(names: Iterable[str], most: int = 4) -> str:
    listed = list(names)
    shown = ", ".join(listed[:most])
    return shown if len(listed) <= most else f"{shown} and {len(listed) - most} more"
