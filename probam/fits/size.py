"""Whether what a fit has to hold fits into memory, asked before the work begins."""

import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from probam.errors import InputError
from probam.family import Family

__all__ = ["check_size", "memory_of_machine"]

_DRAWS_OF_GIBBS = 1000
"""Of a chain, where none are asked for: the least that it keeps."""

_CHAINS = 4
"""Of every sampler by default."""

_WIDE = 200
"""Columns from which it is asked."""

_COPIES = 6
"""Of the sites that an engine of point estimates holds at once: sites, sums, the next sites, and what lies between."""


def check_size(
    family: Family, shape: tuple[int, int], dtype: np.dtype[Any], run: Any, options: Mapping[str, Any]
) -> None:
    """Raise :class:`probam.errors.InputError` where the draws, or a few copies of a point estimate, do not fit.

    Args:
        family: of the memories.
        shape: K memories in D columns.
        dtype: of the numbers.
        run: the function of the engine; None for that of the default, a sampler.
        options: those that were given to it.
    """
    num_components, num_features = shape
    of_draw = _numbers(family, num_components, num_features) if num_features >= _WIDE else 0
    held, words = _held(run, options)
    needed, there = of_draw * held * dtype.itemsize, memory_of_machine()
    if needed <= there:
        return
    has_matrix = of_draw > 3 * num_components * num_features
    fewer = "covariance 'diagonal' (`--covariance diagonal`), " if has_matrix else ""
    raise InputError(
        f"{'covariance' if has_matrix else 'components'}: {num_components} memories in {num_features} columns have "
        f"{of_draw:,} numbers, and {words} of them {needed / 2**30:,.0f} GiB; this machine has {there / 2**30:,.0f} "
        f"GiB; use {fewer}fewer memories (`--components`)" + (" or fewer draws" if held > _COPIES else "")
    )


def _numbers(family: Family, num_components: int, num_features: int) -> int:
    """Numbers of all sites of the memories, from the priors for two, three and four features: the size of a site is a
    polynomial of degree two at most. 0 where the family has no prior for made-up data."""
    sizes = []
    for few in (2, 3, 4):
        try:
            laws = family.prior(np.linspace(0.2, 0.8, 4 * few).reshape(4, few))
        except Exception:  # the model says what is wrong
            return 0
        times = {site: 1 if site in family.shared else num_components for site in laws}
        sizes.append(sum(times[site] * int(np.prod(law.event_shape)) for site, law in laws.items()))
    two, three, four = sizes
    steps = num_features - 2
    return two + steps * (three - two) + steps * (steps - 1) // 2 * (four - 2 * three + two)


def _held(run: Any, options: Mapping[str, Any]) -> tuple[int, str]:
    """How often an engine holds the numbers of a draw, and what these are."""
    sampler = {"num_draws": None, "num_chains": _CHAINS}
    parameters = {} if run is None else inspect.signature(run).parameters
    defaults = {name: each.default for name, each in parameters.items()} or sampler
    given = {name: value for name, value in options.items() if value is not None}
    of = {name: given.get(name, defaults.get(name)) for name in ("num_draws", "num_chains", "num_particles")}
    if "num_particles" in defaults and "num_draws" not in defaults:
        draws = int(of["num_particles"] or 1) * int(of["num_chains"] or 1)
    elif "num_draws" in defaults:
        draws = int(of["num_draws"] or _DRAWS_OF_GIBBS) * int(of["num_chains"] or 1)
    else:
        return _COPIES, "the copies that the search needs"
    return max(draws, _COPIES), f"{draws:,} draws"


def memory_of_machine() -> int:
    """Bytes that this process may use: those of the machine, or the limit of its container."""
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii"))
    except (OSError, ValueError):  # no such limit
        return whole
    return min(whole, limit)
