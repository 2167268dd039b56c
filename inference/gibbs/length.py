"""How long chains run: as long as was asked, or until their draws agree.

Sweep t of a chain takes its random numbers from t alone, so that a chain can be continued: what it does next is what it
would have done in one longer run. Where no number of draws was asked for, the sweeps between two draws are therefore
doubled until the draws meet the bars of the verdict (:func:`probam.reports.summaries.convergence.agree`) or the work
reaches a limit. Each doubling keeps every second draw, drops what the longer warm-up now covers, and goes on for as
many sweeps as were done before. The result is, bit for bit, that of the same call with ``thin`` given.
"""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from probam.errors import InputError
from probam.inference.gibbs.kernels import Settings
from probam.reports.summaries.convergence import agree
from probam.reports.summaries.quantities import weight_entropy

__all__ = ["Draws", "Length", "draws_agree", "every_second", "length_of"]

Draws = tuple[dict[str, np.ndarray], dict[str, np.ndarray]]
"""Sites and statistics; leaves lead with chain and draw."""

_NUM_DRAWS = 1000
"""Draws of each chain where none are asked for."""

_LONGEST = 64
"""Most sweeps between two draws that are tried."""

_MOST_WORK = 7e9
"""Most work of all chains (:func:`_work`) that is spent on longer ones: a minute or two on two cores."""

_PER_SWEEP = 4000
"""What a sweep costs whatever the data, in numbers read."""

_ONE_AT_A_TIME, _BY_SLICES = 8, 50
"""How much more a sweep costs that moves label by label, and one that moves memories by slice sampling."""


class Length(NamedTuple):
    """Draws of a chain that are discarded and kept, sweeps between two draws, and the most of these to try."""

    num_warmup: int
    num_draws: int
    thin: int
    most: int

    @property
    def total(self) -> int:
        """Draws of a chain, discarded ones included; even where the chain may be continued."""
        total = self.num_warmup + self.num_draws
        return total + total % 2 if self.most > self.thin else total


def length_of(
    shape: tuple[int, int, int],
    settings: Settings,
    *,
    has_conditionals: bool,
    num_chains: int,
    num_warmup: int,
    num_draws: int | None,
    thin: int | None,
) -> Length:
    """The length that was asked for, checked; where none was, the shortest and how far it may be lengthened.

    Args:
        shape: numbers of data, features and memories.
        settings: the kernel and its options.
        has_conditionals: whether memories are drawn from full conditionals.
        num_chains: number of chains.
        num_warmup: draws of a chain that are discarded.
        num_draws: draws of a chain that are kept; None where none were asked for.
        thin: sweeps between two draws; None where none were asked for.

    Raises :class:`probam.errors.InputError` for a number that is too small.
    """
    draws = _NUM_DRAWS if num_draws is None else num_draws
    for name, number in (("num_chains", num_chains), ("num_draws", draws), ("thin", 1 if thin is None else thin)):
        if number < 1:
            raise InputError(f"{name}: expected at least 1; got {number}")
    if num_warmup < 0:
        raise InputError(f"num_warmup: expected at least 0; got {num_warmup}")
    if thin is not None or num_draws is not None:
        thin = thin or 1
        return Length(num_warmup, draws, thin, thin)
    work = num_chains * (num_warmup + draws) * _work(shape, settings, has_conditionals)
    most = 1
    while most < _LONGEST and 2 * most * work <= _MOST_WORK:
        most *= 2
    return Length(num_warmup, draws, 1, most)


def _work(shape: tuple[int, int, int], settings: Settings, has_conditionals: bool) -> float:
    """About how many numbers a sweep reads."""
    labels = 1 if settings.kernel in ("blocked", "slice") else _ONE_AT_A_TIME
    memories = 0 if has_conditionals or settings.integrated else _BY_SLICES
    return (_PER_SWEEP + float(np.prod(shape))) * (labels + memories)


def draws_agree(draws: Draws) -> bool:
    """Whether what does not change when memories are renumbered meets the bars on R-hat and effective draws."""
    sites, stats = draws
    watched: dict[str, Float[np.ndarray, "C S"]] = {name: stats[name] for name in ("lp", "occupied")}
    watched |= {name: value for name, value in sites.items() if value.ndim == 2}
    if "weights" in sites:
        weights = sites["weights"]
        watched["entropy"] = weight_entropy(weights)
        watched["largest"] = weights.max(axis=-1)
    return agree({name: np.asarray(values, np.float64) for name, values in watched.items()})


def every_second(draws: Draws, num_warmup: int) -> Draws:
    """Of draws after a warm-up of ``num_warmup``, every second one that lies after a warm-up of twice the sweeps."""
    thinned: Draws = jax.tree.map(lambda leaf: leaf[:, num_warmup + 1 :: 2], draws)
    return thinned
