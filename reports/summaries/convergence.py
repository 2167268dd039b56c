"""Convergence of label-invariant quantities: mean, Monte Carlo error, effective draws and R-hat of each.

R-hat and ESS of a memory's own parameters mean nothing where labels switch; those of quantities that do not change
under renumbering do. Estimators are those of Vehtari et al. (2021, arXiv:1903.08008), from ``arviz_stats``.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float

from probam.reports.summaries.quantities import EngineKind, InvariantDraws, engine_kind, invariant_draws

__all__ = [
    "ESS_PER_CHAIN",
    "R_HAT_LIMIT",
    "agree",
    "e_bfmi",
    "effective_draws",
    "invariant_summary",
    "summarise",
    "wanted_draws",
]

R_HAT_LIMIT = 1.01
"""Chains agree where R-hat is below it."""

ESS_PER_CHAIN = 100
"""Effective draws that are wanted of each chain, in the bulk and in the tails (Vehtari et al. 2021)."""


def _arviz() -> Any:
    """``arviz_stats``, which has no types; a fit that asks for no estimate is spared the half second of its import."""
    import arviz_stats

    return arviz_stats


def effective_draws(values: Float[np.ndarray, "C S"]) -> float:
    """Bulk ESS of one chain on its own, averaged over the chains; a chain that stands still counts as one draw.

    Unlike the pooled ESS it does not shrink where chains disagree, so it can say whether they do.
    """
    if values.shape[1] < 4:
        return float(values.shape[1])
    own = [float(_arviz().ess(_dataset(chain[None]))["q"]) if np.ptp(chain) > 0 else 1.0 for chain in values]
    return float(np.mean(own))


def wanted_draws(num_chains: int) -> int:
    """Effective draws that are wanted of so many chains: fewer than four have to give as many as four."""
    return ESS_PER_CHAIN * max(num_chains, 4)


def agree(draws: InvariantDraws) -> bool:
    """Whether R-hat of every quantity is within the limit, where there are chains to compare, and ESS is enough."""
    table = summarise(draws, "chains")
    num_chains = max(len(values) for values in draws.values())
    return bool(
        (table["r_hat"].dropna() <= R_HAT_LIMIT).all()
        and (table[["ess_bulk", "ess_tail"]].min(axis=1).dropna() >= wanted_draws(num_chains)).all()
    )


def e_bfmi(energy: Float[np.ndarray, "C S"]) -> Float[np.ndarray, " M"]:
    """Energy Bayesian fraction of missing information of each chain whose energy moves (Betancourt 2016).

    Values far below one mean that a chain explores the energy slowly, so that tails may be missed.
    """
    moving = energy[np.ptp(energy, axis=1) > 0]
    if not len(moving):
        return np.empty(0)
    return np.asarray(_arviz().bfmi(xr.DataTree.from_dict({"sample_stats": _dataset(moving, "energy")}))["energy"])


def invariant_summary(tree: xr.DataTree) -> pd.DataFrame:
    """Mean, sd, Monte Carlo error, ESS and R-hat of the label-invariant quantities, one row each.

    Columns ``mean``, ``sd``, ``mcse``, ``ess_bulk``, ``ess_tail``, ``r_hat`` and ``note``. What is not defined is
    ``<NA>`` and the note says why: ``constant``, ``one draw``, ``one chain`` (no R-hat), ``fewer than four draws``,
    ``chains stuck`` (each chain constant at its own value, R-hat infinite), ``not finite``, ``independent
    draws`` (a fitted approximation: R-hat and ESS would say nothing about its error).
    """
    return summarise(invariant_draws(tree), engine_kind(tree))


def summarise(draws: InvariantDraws, kind: EngineKind) -> pd.DataFrame:
    """:func:`invariant_summary` of draws that were already read."""
    rows = {name: _row(values, kind) for name, values in draws.items()}
    columns = ["mean", "sd", "mcse", "ess_bulk", "ess_tail", "r_hat"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=[*columns, "note"])
    return table.astype(dict.fromkeys(columns, "Float64") | {"note": "str"})


def _row(values: Float[np.ndarray, "C S"], kind: EngineKind) -> Sequence[float | str | None]:
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
    mcse = float(_arviz().mcse(data)["q"])
    bulk = float(_arviz().ess(data, method="bulk")["q"])
    tail = float(_arviz().ess(data, method="tail")["q"])
    if num_chains == 1:
        return [mean, sd, mcse, bulk, tail, None, "one chain"]
    folded = np.abs(values - np.median(values))
    methods = ["z_scale"] + (["folded"] if np.ptp(folded) > 0 else [])  # a two-valued quantity folds to a constant
    with np.errstate(invalid="ignore", divide="ignore"):
        r_hats = [float(_arviz().rhat(data, method=method)["q"]) for method in methods]
    finite = [r_hat for r_hat in r_hats if not np.isnan(r_hat)]
    return [mean, sd, mcse, bulk, tail, max(finite, default=np.inf), ""]


def _dataset(values: Float[np.ndarray, "C S"], name: str = "q") -> xr.Dataset:
    """One quantity as ArviZ wants it."""
    chains, draws = values.shape
    return xr.Dataset({name: (("chain", "draw"), values)}, {"chain": np.arange(chains), "draw": np.arange(draws)})
