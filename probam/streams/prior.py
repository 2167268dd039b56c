"""The prior of the memories of a stream: their conjugate pair, and the sites that are held fixed."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike
from numpyro.distributions import Distribution

from probam.compiled import compiled_quickly
from probam.conjugacy.pairs import ConjugatePair
from probam.errors import InputError
from probam.family import Family, Params
from probam.family.capabilities import Conjugacy
from probam.numerics.steady import restored, steady

__all__ = ["StreamPair", "fixed_sites", "integrates_all", "known_arrays", "pair_of", "stream_pair"]

_SITES = ("loc", "direction", "prob")
"""Sites that a pair integrates out; every other site of a family can be given as known."""


class StreamPair(NamedTuple):
    """The conjugate pair of the memories of a stream, and whether it only approximates their family."""

    pair: ConjugatePair
    is_approximate: bool


def known_arrays(known: Mapping[str, Any] | None) -> dict[str, np.ndarray]:
    """Values of sites that are not learned, in double precision."""
    return {site: np.asarray(value, np.float64) for site, value in (known or {}).items()}


def integrates_all(family: Family, prior: Mapping[str, Distribution], known: Mapping[str, np.ndarray]) -> bool:
    """Whether all sites of a memory are integrated out, so that no draw needs a value that is held fixed."""
    conjugacy = Conjugacy.ask(family)
    return bool(not known and conjugacy and conjugacy.conjugate_base(prior) is not None)


def stream_pair(
    family: Family,
    prior: Mapping[str, Distribution],
    known: Mapping[str, np.ndarray],
    num_memories: int,
    dtype: np.dtype[Any],
) -> StreamPair:
    """The conjugate pair of the family (exact if there is one), for ``num_memories`` memories with the same prior.

    Raises :class:`probam.errors.InputError` for known sites that the family lacks, and families without a pair.
    """
    for site in known:
        if site not in prior or site in _SITES:
            others = [name for name in prior if name not in _SITES] or ["none"]
            raise InputError(
                f"known: family {family.name!r} has no site {site!r} to hold fixed; it has {', '.join(others)}"
            )
    exact, approximate = _pairs(steady(dict(prior)), dict(known), family, num_memories, dtype)
    pair = exact if approximate is None else approximate
    if pair is None:
        raise InputError(
            f"family: nothing can be integrated out of family {family.name!r} under these priors; streams "
            "work with gaussian (covariance isotropic, spherical, diagonal, full), vmf, bernoulli and multinomial, and "
            "approximately with laplace"
        )
    return StreamPair(pair, is_approximate=approximate is not None)


def pair_of(
    family: Family,
    prior: Mapping[str, Distribution],
    known: Mapping[str, ArrayLike],
    num_memories: int,
    dtype: np.dtype[Any],
) -> tuple[ConjugatePair | None, ConjugatePair | None]:
    """The exact pair, or else one that approximates the family; :func:`stream_pair` for use within a program."""
    conjugacy = Conjugacy.ask(family)
    exact = None if known or not conjugacy else conjugacy.conjugate_base(prior)
    if not conjugacy or exact is not None:
        return exact, None
    fixed = fixed_sites(family, prior, known, num_memories, dtype)
    exact = conjugacy.conjugate(fixed, prior)
    return exact, conjugacy.approximate_pair(fixed, prior) if exact is None else None


@compiled_quickly(static_argnums=(2, 3, 4))
def _pairs(
    prior: Any, known: Mapping[str, ArrayLike], family: Family, num_memories: int, dtype: np.dtype[Any]
) -> tuple[ConjugatePair | None, ConjugatePair | None]:
    return pair_of(family, restored(prior), known, num_memories, dtype)


def fixed_sites(
    family: Family,
    prior: Mapping[str, Distribution],
    known: Mapping[str, ArrayLike],
    num_memories: int,
    dtype: np.dtype[Any],
) -> Params:
    """Every site: its known value, or the middle of its prior (of a site that is learned, only the shape matters)."""
    sites = {}
    for site, law in prior.items():
        value = jnp.asarray(known[site], dtype) if site in known else _middle(law)
        value = jnp.broadcast_to(value, law.event_shape).astype(dtype)
        owned = site not in family.shared
        sites[site] = jnp.broadcast_to(value, (num_memories, *law.event_shape)) if owned else value
    return sites


def _middle(law: Distribution) -> jax.Array:
    """Median of a log-normal law, mean of another law; ones if it has no mean."""
    base = getattr(law, "base_dist", law)
    if "LogNormal" in (type(law).__name__, type(base).__name__):
        log_normal: Any = law if hasattr(law, "loc") else base
        return jnp.exp(log_normal.loc)
    try:
        return jnp.asarray(law.mean)
    except NotImplementedError:
        return jnp.ones(law.event_shape)
