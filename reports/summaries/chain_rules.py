"""Rules on Markov chains: whether they agree, are long enough, and what NUTS says of itself."""

from collections.abc import Iterator

import numpy as np
import xarray as xr
from jaxtyping import Float

from probam.reports.page import first_named
from probam.reports.summaries.convergence import ESS_PER_CHAIN, R_HAT_LIMIT, e_bfmi, wanted_draws
from probam.reports.summaries.quantities import options, quantity_name
from probam.reports.summaries.verdict import Facts, Finding, Rule
from probam.reports.tree import has

__all__ = ["CHAIN_RULES"]

_R_HAT_BAD = 1.05
_E_BFMI = 0.3
_TARGETS = (0.9, 0.99)
"""Target acceptance probabilities to try, one after the other, where trajectories diverge."""

_MANY_DIVERGED = 0.01
_DEPTH_REACHED = 0.01
"""The depth of trees matters when this share of the trajectories reaches its maximum."""

_MODE_GAP = 3.0
"""Chains whose mean log densities lie further apart than so many within-chain sds sit in different modes."""


def _statistic(tree: xr.DataTree, name: str) -> Float[np.ndarray, "C S"] | None:
    """A statistic of the sampler by chain and draw; None where the fit has none."""
    if not has(tree, "sample_stats", name):
        return None
    return np.asarray(tree["sample_stats"][name].transpose("chain", "draw").values, np.float64)


def _divergences(facts: Facts) -> Iterator[Finding]:
    diverging = _statistic(facts.tree, "diverging")
    if diverging is None or not diverging.any():
        return
    count, total = int(diverging.sum()), diverging.size
    noun = "trajectory" if count == 1 else "trajectories"
    given = options(facts.tree, "engine_options").get("target_accept")
    higher = [level for level in _TARGETS if not isinstance(given, int | float) or level > given]
    remedy = (
        f"Raise the target acceptance probability (option target_accept: {', then '.join(map(str, higher))}). If "
        "divergences remain, a"
        if higher
        else "A"
    )
    yield Finding(
        "problem" if count > _MANY_DIVERGED * total else "warning",
        f"{count} of {total} {noun} diverged: parts of the posterior are too sharply curved for the step size, and "
        f"the draws may miss them. {remedy} memory may be collapsing onto a few data: widen its prior or use fewer "
        "memories.",
    )


def _tree_depth(facts: Facts) -> Iterator[Finding]:
    depth = _statistic(facts.tree, "tree_depth")
    if depth is None:
        return
    given = options(facts.tree, "engine_options").get("max_tree_depth", 10)
    limit = int(given) if isinstance(given, int | float) else 10
    share = float((depth >= limit).mean())
    if share > _DEPTH_REACHED:
        yield Finding(
            "warning",
            f"{share:.0%} of the trajectories reached the maximum tree depth ({limit}): the draws are valid but slow. "
            "Standardise the data, or raise the option max_tree_depth.",
        )


def _slow_energy(facts: Facts) -> Iterator[Finding]:
    """Whether a chain explores the energy, by E-BFMI; chains that stand still have none."""
    energy = _statistic(facts.tree, "energy")
    if energy is None or energy.shape[1] < 4 or not np.isfinite(energy).all():
        return
    fractions = e_bfmi(energy)
    low = int(np.sum(fractions < _E_BFMI))
    if low:
        yield Finding(
            "warning",
            f"{low} of {len(fractions)} chains explore the energy poorly (E-BFMI down to {fractions.min():.2f}, "
            f"below {_E_BFMI}): heavy tails may be undersampled. Run longer chains or use tighter priors.",
        )


def _modes(facts: Facts) -> Iterator[Finding]:
    """Whether chains sit at log densities that no single mode explains."""
    values = facts.draws.get("lp", facts.draws.get("log_lik"))
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
    yield Finding(
        "problem",
        f"The chains sit in different modes: their mean log densities differ by {gap:.1f} nats, {sds}. "
        f"{others} of {len(means)} chains are lower than the best. The pooled draws do not represent the posterior. "
        "Engine smc moves between modes (with more particles, where it did not).",
    )


def _one_chain(facts: Facts) -> Iterator[Finding]:
    if int(facts.tree["posterior"].sizes["chain"]) == 1:
        text = "There is only one chain, so agreement between chains cannot be checked. Run four."
        yield Finding("warning", text)


def _agreement(facts: Facts) -> Iterator[Finding]:
    r_hat = facts.summary["r_hat"].dropna()
    high = r_hat[r_hat > R_HAT_LIMIT].sort_values(ascending=False)
    if len(high):
        named = first_named([quantity_name(str(name)) for name in high.index])
        worst = "infinite" if np.isinf(high.iloc[0]) else f"{high.iloc[0]:.3f}"
        yield Finding(
            "problem" if high.iloc[0] > _R_HAT_BAD else "warning",
            f"The chains do not agree yet: R-hat exceeds {R_HAT_LIMIT} for {named}; the largest is {worst}. "
            f"{_longer(facts.tree)}; if that does not help, there may be several modes.",
        )


def _effective_size(facts: Facts) -> Iterator[Finding]:
    """Whether there are enough effective draws, and if not, how many more would do."""
    ess = facts.summary[["ess_bulk", "ess_tail"]].min(axis=1).dropna()
    needed = wanted_draws(int(facts.tree["posterior"].sizes["chain"]))
    low = ess[ess < needed].sort_values()
    if len(low):
        factor = int(np.ceil(needed / max(float(low.iloc[0]), 1.0)))
        yield Finding(
            "warning",
            f"The effective sample size is low: {low.iloc[0]:.0f} for {quantity_name(str(low.index[0]))}, {needed} "
            f"recommended ({len(low)} of {len(ess)} quantities are below). {_longer(facts.tree, factor)}.",
        )


def _longer(tree: xr.DataTree, factor: int | None = None) -> str:
    """What gives more effective draws, about so many times as many: longer chains, or more particles."""
    if tree.attrs.get("engine") == "smc":
        return f"Use {'more' if factor is None else f'about {factor} times as many'} particles (option num_particles)"
    return f"Run {'longer chains' if factor is None else f'about {factor} times longer'} (option num_draws)"


CHAIN_RULES = (
    Rule(
        "divergences",
        "trajectories of NUTS that diverged",
        f"any; a problem above {_MANY_DIVERGED:.0%} of them",
        ("warning", "problem"),
        _divergences,
        ("chains",),
    ),
    Rule(
        "tree depth",
        "depth of the trees of NUTS",
        f"more than {_DEPTH_REACHED:.0%} at the maximum",
        ("warning",),
        _tree_depth,
        ("chains",),
    ),
    Rule("slow energy", "E-BFMI of each chain", f"below {_E_BFMI}", ("warning",), _slow_energy, ("chains",)),
    Rule(
        "chains in different modes",
        "mean log joint density of each chain",
        f"apart by more than {_MODE_GAP:g} standard deviations within a chain",
        ("problem",),
        _modes,
        ("chains",),
    ),
    Rule("one chain", "the number of chains", "one", ("warning",), _one_chain, ("chains",)),
    Rule(
        "chains disagree",
        "R-hat of the label-invariant quantities; infinite where chains stand still apart",
        f"above {R_HAT_LIMIT}; a problem above {_R_HAT_BAD}",
        ("warning", "problem"),
        _agreement,
        ("chains",),
    ),
    Rule(
        "few effective draws",
        "bulk and tail ESS of the label-invariant quantities",
        f"below {ESS_PER_CHAIN} a chain, of four chains at least",
        ("warning",),
        _effective_size,
        ("chains",),
    ),
)
"""Rules on engines that sample."""
