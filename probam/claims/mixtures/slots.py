"""Claim A17, further: a memory of slots, and when a token is new to it.

Physics: :mod:`probam.energies.consolidated` and its rules of novelty. Statistics: NumPyro's normal laws under the seats
of a Pitman-Yor process, and means over the members of each slot.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array

from probam.claims.claim import extreme, ordinary, register, relative_error
from probam.claims.inputs import Floats, generator
from probam.energies.consolidated import Slots, empty, write
from probam.energies.novelty import Novelty, PitmanYor, Similarity

__all__: list[str] = []

_HE = "He et al. (2024), CAMELoT, arXiv:2402.13449 (abstract and overviews; its code is not public)"


def _slots(
    key: jax.Array, *, dim: int = 4, num_slots: int = 5, num_keys: int = 400, rho: float = 0.5
) -> dict[str, Any]:
    """Slots with counts from 1 to 30, two of them empty, and keys near them and elsewhere."""
    draw = generator(key)
    slots = draw.normal(size=(num_slots, dim))
    keys = np.where(draw.random((num_keys, 1)) < 0.5, slots[draw.integers(num_slots, size=num_keys)], 0)
    counts = draw.integers(1, 31, size=num_slots).astype(float)
    counts[num_slots - 2 :] = 0
    spread = draw.uniform(0.2, 1.2, size=(num_keys, 1))
    return {
        "slots": slots,
        "counts": counts,
        "queries": keys + spread * draw.normal(size=(num_keys, dim)),
        "rho": np.asarray(rho),
    }


@register(
    id="A17.slots",
    source=_HE,
    title="when a token is new to a memory of slots",
    statement=(
        "new iff log(alpha + d K) + log N(k; 0, [1/(2 beta) + 1/(2 rho)] I) >= log(n_m - d) + "
        "log N(k; k_m, I/(2 beta)) for every slot m in use"
    ),
    latex=r"\log(\alpha + dK) + \log N\bigl(k; 0, (\tfrac1{2\beta} + \tfrac1{2\rho}) I\bigr) \ge "
    r"\log(n_m - d) + \log N(k; k_m, \tfrac{1}{2\beta} I)",
    printed_statement="new iff the largest similarity is not above a threshold R",
    verdict="COND",
    relation="count",
    constant="(rho / (beta + rho))^(D/2)",
    inputs=_slots,
    cases=(ordinary("plain"), ordinary("D = 9", dim=9), extreme("wide base", rho=1e-3)),
    tolerance=0.0,
    exact={"threshold": None, "sharper": 1.0, "stronger": lambda _normaliser: 1.0},
    printed={"threshold": 0.8},
    printed_exceeds=0.5,
    mutations={
        "normaliser of the new memory left out": {"stronger": lambda normaliser: 1 / normaliser},
        "half the inverse temperature": {"sharper": 0.5},
        "ten times the strength": {"stronger": lambda _normaliser: 10.0},
    },
)
def new_is_what_the_restaurant_seats_alone(
    slots: Array,
    counts: Array,
    queries: Array,
    rho: Array,
    *,
    threshold: float | None,
    sharper: float,
    stronger: Callable[[Array], Any],
) -> Array:
    """Number of keys on which the rule and the predictive probabilities disagree; ties to 1e-9 are left out."""
    beta, alpha, discount, dim = 2.0, 1.5, 0.3, slots.shape[1]
    used = counts > 0
    seats = jnp.log(jnp.where(used, counts - discount, 1))
    known = dist.Normal(slots, (0.5 / beta) ** 0.5, validate_args=False).to_event(1)
    apart = dist.Normal(jnp.zeros(dim), jnp.sqrt(0.5 / beta + 0.5 / rho), validate_args=False).to_event(1)
    sitting = jnp.where(used, seats + jnp.asarray(known.log_prob(queries[:, None])), -jnp.inf)
    alone = jnp.log(alpha + discount * jnp.sum(used)) + jnp.asarray(apart.log_prob(queries))
    lead = alone - jnp.max(sitting, axis=-1)
    strength = alpha * stronger((rho / (beta + rho)) ** (dim / 2))
    exact: Novelty = PitmanYor(sharper * beta, rho, strength, discount)
    novelty = exact if threshold is None else Similarity(threshold)
    nearest, is_new = jax.vmap(lambda key: novelty(key, slots, counts))(queries)
    wrong = is_new != (lead >= 0)
    other = ~is_new & (nearest != jnp.argmax(sitting, axis=-1))
    return jnp.sum((wrong | other) & (jnp.abs(lead) > 1e-9)).astype(float)


def _stream(key: jax.Array, *, num_tokens: int = 60, dim: int = 3) -> dict[str, Floats]:
    """Tokens around a few places, which come back."""
    draw = generator(key)
    places = 6 * draw.normal(size=(7, dim))
    return {"tokens": places[draw.integers(7, size=num_tokens)] + 0.1 * draw.normal(size=(num_tokens, dim))}


@register(
    id="A17.consolidation",
    source=_HE,
    title="a slot is the mean of its tokens since it was last replaced",
    statement="after any stream each slot's key is the mean, and its count the number, of the tokens that joined it",
    latex=r"k_m = \frac{1}{n_m} \sum_{t \in m} k_t",
    printed_statement="slot <- (n slot + k) / (n + 1)",
    verdict="EXACT",
    relation="equal",
    constant="1 / n",
    inputs=_stream,
    cases=(ordinary("plain"), ordinary("D = 6", dim=6), extreme("one token", num_tokens=1)),
    tolerance=1e-12,
    exact={"mean": lambda members: members.mean(axis=0), "oldest": True},
    mutations={
        "the last token": {"mean": lambda members: members[-1]},
        "the least used slot is replaced": {"oldest": False},
    },
    jit=False,
)
def slots_are_means_of_their_tokens(tokens: Floats, *, mean: Callable[[Floats], Floats], oldest: bool) -> Array:
    """A bookkeeping of members in lists against the slots of the physics."""
    rule = Similarity(0.95)
    slots: Slots = empty(4, tokens.shape[1], tokens.shape[1])
    members: list[list[int]] = [[] for _ in range(4)]
    last = [-1] * 4
    for t, token in enumerate(tokens):
        slots = write(slots, jnp.asarray(token), jnp.asarray(token), rule)
        cosines = [_cosine(token, tokens[own].mean(axis=0)) if own else -np.inf for own in members]
        place = int(np.argmax(cosines))
        if cosines[place] <= 0.95:
            vacant = [m for m in range(4) if not members[m]]
            order = last if oldest else [len(own) for own in members]
            place = vacant[0] if vacant else int(np.argmin(order))
            members[place] = []
        members[place].append(t)
        last[place] = t
    expected = np.stack([mean(tokens[own]) if own else np.zeros(tokens.shape[1]) for own in members])
    counted = relative_error(slots.counts, np.array([float(len(own)) for own in members]))
    return jnp.maximum(relative_error(slots.keys, expected), counted)


def _cosine(a: Floats, b: Floats) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
