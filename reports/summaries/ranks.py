r"""Simulation-based calibration: ranks of true values among posterior draws, and tests that they are uniform.

Where parameters are drawn from the prior, data from the parameters, and draws from the exact posterior, the rank of any
function of parameters and data at the truth among its values at L draws is uniform on 0, ..., L (Talts et al. 2018,
arXiv:1804.06788). Functions of parameters *and data*, the log likelihood above all, reveal errors that parameters alone
do not (Modrak et al. 2023, arXiv:2211.02383).

Notation: M simulations, L draws, Q quantities.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float, Int
from scipy.stats import binom, chisquare

from probam.errors import InputError
from probam.reports.summaries.convergence import effective_draws

__all__ = ["Envelope", "Uniformity", "chi_square", "ecdf_envelope", "rank_dataset", "ranks_among", "uniformity"]

_MAX_BINS = 20
_PER_BIN = 5
"""Fewest simulations expected in a bin of the chi-square test."""

_NULL = 4000
"""Sets of uniform ranks by which the envelope is adjusted."""

_LEVEL = 0.95

_WATCHED = 25
"""Simulations whose effective draws are counted."""


def ranks_among(
    truth: Float[np.ndarray, " M"], draws: Float[np.ndarray, "M L"], rng: np.random.Generator
) -> Int[np.ndarray, " M"]:
    """How many of the draws lie below the truth; ties are broken at random.

    Raises :class:`probam.errors.InputError` for values that are not finite.
    """
    if not (np.isfinite(truth).all() and np.isfinite(draws).all()):
        raise InputError("truth, draws: expected finite values; some are not finite and have no rank")
    below = np.sum(draws < truth[:, None], axis=1)
    ties = np.sum(draws == truth[:, None], axis=1)
    return np.asarray(below + rng.integers(0, ties + 1))


def chi_square(ranks: Int[np.ndarray, " M"], num_draws: int) -> float:
    """P-value of the chi-square test that ranks are uniform on 0, ..., ``num_draws``.

    Bins: the largest divisor of L + 1 that is at most 20 and leaves at least five expected ranks in each.
    """
    bins = [b for b in range(2, _MAX_BINS + 1) if (num_draws + 1) % b == 0 and len(ranks) >= _PER_BIN * b]
    if not bins:
        raise InputError(
            f"ranks: {len(ranks)} ranks on 0..{num_draws} are too few for a chi-square test, or L + 1 = "
            f"{num_draws + 1} has no divisor up to {_MAX_BINS}; use more simulations, and 99 draws for example"
        )
    counts = np.bincount(ranks * max(bins) // (num_draws + 1), minlength=max(bins))
    return float(chisquare(counts).pvalue)


class Envelope(NamedTuple):
    """Smallest and largest numbers of ranks below 1, ..., L that lie in a simultaneous band."""

    lower: Int[np.ndarray, " L"]
    upper: Int[np.ndarray, " L"]


@lru_cache(maxsize=16)
def _null(num_ranks: int, num_draws: int) -> tuple[Float[np.ndarray, "M1 L"], Float[np.ndarray, " R"]]:
    """Two-sided binomial tail of each count at each place, and the smallest tails of sets of uniform ranks."""
    place = np.arange(1, num_draws + 1) / (num_draws + 1)
    count = np.arange(num_ranks + 1)[:, None]
    tail = 2 * np.minimum(binom.cdf(count, num_ranks, place), binom.sf(count - 1, num_ranks, place))
    rng = np.random.default_rng(0)
    smallest = np.empty(_NULL)
    for i in range(_NULL):
        smallest[i] = _smallest(rng.integers(0, num_draws + 1, num_ranks), tail)
    return tail, np.sort(smallest)


def _below(ranks: Int[np.ndarray, " M"], num_draws: int) -> Int[np.ndarray, " L"]:
    """How many ranks are below 1, ..., L."""
    return np.cumsum(np.bincount(ranks, minlength=num_draws + 1))[:num_draws]


def _smallest(ranks: Int[np.ndarray, " M"], tail: Float[np.ndarray, "M1 L"]) -> float:
    return float(tail[_below(ranks, tail.shape[1]), np.arange(tail.shape[1])].min())


def ecdf_envelope(num_ranks: int, num_draws: int, level: float = _LEVEL) -> Envelope:
    r"""The band in which the whole ECDF of uniform ranks lies with probability ``level``.

    At place i of L the count below is Binomial(M, i / (L + 1)); the pointwise tail :math:`\gamma` is adjusted, by
    simulation, until the band holds everywhere at once (Säilynoja, Bürkner and Vehtari 2022, arXiv:2103.10522).
    """
    tail, tails = _null(num_ranks, num_draws)
    gamma = np.quantile(tails, 1 - level, method="inverted_cdf")
    inside = tail >= gamma * (1 - 1e-9)  # (M + 1, L)
    return Envelope(inside.argmax(axis=0), num_ranks - inside[::-1].argmax(axis=0))


class Uniformity(NamedTuple):
    """Whether ranks are uniform."""

    p_chi_square: float
    p_ecdf: float  # share of sets of uniform ranks whose ECDF leaves the diagonal as far somewhere
    distance: float  # of the ECDF from the diagonal, where the first count outside the 95 % band is 1: below is inside
    mean: float  # of ranks / L: above a half, draws are too low


def uniformity(ranks: Int[np.ndarray, " M"], num_draws: int) -> Uniformity:
    """Both tests of uniform ranks, and the distance of their ECDF from the diagonal.

    Args:
        ranks: of M simulations.
        num_draws: L; ranks lie on 0, ..., L.
    """
    tail, tails = _null(len(ranks), num_draws)
    strays = np.searchsorted(tails, _smallest(ranks, tail) * (1 + 1e-9), side="right")
    band = ecdf_envelope(len(ranks), num_draws)
    middle = len(ranks) * np.arange(1, num_draws + 1) / (num_draws + 1)
    off = _below(ranks, num_draws) - middle
    width = np.where(off > 0, band.upper + 1 - middle, middle - band.lower + 1)  # to the first count outside
    return Uniformity(
        chi_square(ranks, num_draws),
        float((1 + strays) / (1 + len(tails))),
        float(np.max(np.abs(off) / width)),
        float(ranks.mean() / num_draws),
    )


def rank_dataset(
    truths: Sequence[Mapping[str, float]],
    draws: Sequence[Mapping[str, Float[np.ndarray, " L"]]],
    *,
    seed: int = 0,
) -> xr.Dataset:
    """Ranks and their uniformity from the values of each quantity at the truth and at the draws of each simulation.

    Args:
        truths: the quantities at the truth, by name, one mapping for each simulation.
        draws: the same at the L draws.
        seed: of the order of ties.

    Returns:
        Variables ``truth`` and ``rank`` (simulation, quantity); ``p_chi_square``, ``p_ecdf``, ``distance``,
        ``mean_rank`` and ``ess`` (quantity). ``ess`` is the effective number of the L draws, which ranks treat as
        independent: the median over some of the simulations. Attribute ``num_draws``. Quantities that never vary are
        left out.
    """
    names = [
        name
        for name in truths[0]
        if len({one[name] for one in truths}) > 1 or any(np.ptp(one[name]) > 0 for one in draws)
    ]
    rng = np.random.default_rng(seed)
    truth = np.array([[float(one[name]) for name in names] for one in truths])
    values = np.array([[np.asarray(one[name], dtype=float) for name in names] for one in draws])  # (M, Q, L)
    num_draws = values.shape[2]
    ranks = np.stack([ranks_among(truth[:, q], values[:, q], rng) for q in range(len(names))], axis=1)
    tests = [uniformity(ranks[:, q], num_draws) for q in range(len(names))]
    watched = values[:: -(-len(values) // _WATCHED)]
    effective = [np.median([effective_draws(one[None]) for one in watched[:, q]]) for q in range(len(names))]
    columns = dict(zip(Uniformity._fields, np.array(tests).T, strict=True))
    return xr.Dataset(
        {
            "truth": (("simulation", "quantity"), truth),
            "rank": (("simulation", "quantity"), ranks),
            "mean_rank": ("quantity", columns.pop("mean")),
            "ess": ("quantity", np.array(effective)),
            **{name: ("quantity", column) for name, column in columns.items()},
        },
        coords={"quantity": names, "simulation": np.arange(len(ranks))},
        attrs={"num_draws": num_draws},
    )
