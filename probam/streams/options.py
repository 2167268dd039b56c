"""The options of a stream that is not stationary: which go together, what kernel they make, what it says of itself."""

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from probam.conjugacy.pairs import ConjugatePair
from probam.distributions.growth import tail_of
from probam.errors import InputError
from probam.inference.stream.decay import FADINGS, age_kernel, fading_process
from probam.inference.stream.drift import Diffusion, Forgetting, Place, RandomWalk
from probam.inference.stream.hyper import Hyper, Learning, check_learning
from probam.inference.stream.kernel import Kernel, log_seats, present
from probam.inference.stream.predictive import locations
from probam.inference.stream.state import StreamState
from probam.streams.to_fit import by_size, slots_by_size

__all__ = [
    "Changing",
    "Last",
    "changing_kernel",
    "check_changing",
    "last_partition",
    "places",
    "tail_warnings",
    "worth",
]

FORGETTINGS = ("statistics", "diffusion")

_SURE = 0.01
"""Level of the test of a Dirichlet process against a longer tail."""


class Changing(NamedTuple):
    """What of a stream changes with time; the defaults change nothing."""

    half_life: float | None = None
    fading: str = "exponential"
    fading_exponent: float = 1.0
    drift: float = 0.0
    forget: float | None = None
    forgetting: str = "statistics"
    slots: int = 0
    learn_alpha: tuple[float, float] | None = None
    learn_discount: tuple[float, float] | None = None
    learn_every: int = 100

    @classmethod
    def of(cls, **options: Any) -> "Changing":
        """The options as they were given: True for a prior is its default, a pair of numbers the prior's own."""
        standard = {"learn_alpha": (1.0, 1.0), "learn_discount": (1.0, 3.0)}  # those of models.weights
        for name, law in standard.items():
            given = options.get(name)
            options[name] = None if given is None or given is False else law if given is True else _pair_of(name, given)
        if options.get("learn_discount") and not options["learn_alpha"]:
            options["learn_alpha"] = standard["learn_alpha"]
        return cls(**options)

    @property
    def moves(self) -> bool:
        """Whether a memory's posterior changes while it is not used."""
        return self.drift > 0 or self.forget is not None

    def said(self) -> dict[str, Any]:
        """Those that differ from the defaults, as JSON has them."""
        standard = Changing()
        return {name: value for name, value in self._asdict().items() if value != getattr(standard, name)}


def _pair_of(name: str, given: Any) -> tuple[float, float]:
    try:
        first, second = map(float, given)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: expected True, or the two numbers of its prior; got {given!r}") from error
    return first, second


def check_changing(
    changing: Changing,
    *,
    alpha: float,
    energy: str,
    tidy_every: int,
    rejuvenate_every: int,
) -> None:
    """Raise :class:`probam.errors.InputError` for numbers that mean nothing, and options that cannot go together."""
    if not 0 <= changing.drift < np.inf:
        raise InputError(f"drift: expected a variance for each datum of at least 0; got {changing.drift}")
    if changing.forget is not None and not changing.forget > 0:
        raise InputError(f"forget: expected a half-life in data above 0; got {changing.forget}")
    for name, value, known in (
        ("fading", changing.fading, FADINGS), ("forgetting", changing.forgetting, FORGETTINGS),
    ):  # fmt: skip
        if value not in known:
            raise InputError(f"{name}: expected one of {', '.join(known)}; got {value!r}")
    if not 0 <= changing.slots <= 2**20:
        raise InputError(
            f"slots: expected a number of memories from 1 to 2^20, or 0 for no limit; got {changing.slots}"
        )
    if changing.learn_alpha is not None:
        check_learning(changing.learn_alpha, changing.learn_discount, changing.learn_every)
    if changing.half_life is not None:
        age_kernel(changing.half_life, changing.fading, changing.fading_exponent)
        if not alpha > 0:
            raise InputError(f"alpha: where counts fade it must be above 0, or nothing new could come; got {alpha}")
    if changing.drift > 0 and changing.forget is not None:
        raise InputError("forget: a memory either drifts away or returns to the prior; give drift or forget, not both")
    if changing.moves and energy != "collapsed":
        raise InputError(f"energy: memories that move have no known places; use 'collapsed', not {energy!r}")
    given = {
        "half_life": changing.half_life is not None, "drift": changing.drift > 0,
        "forget": changing.forget is not None, "slots": changing.slots > 0,
    }  # fmt: skip
    changes = " and ".join(name for name, is_given in given.items() if is_given)
    for name, wanted, why in (
        ("tidy_every", tidy_every, "memories are merged"), ("rejuvenate_every", rejuvenate_every, "rows are reseated"),
    ):  # fmt: skip
        if changes and wanted:
            raise InputError(
                f"{name}: {why} as if the order of the data did not matter, but with {changes} it does; leave out one "
                "or the other"
            )
    if changing.learn_alpha is None:
        return
    if changing.half_life is not None or changing.slots:
        raise InputError(
            "learn_alpha: the number of memories tells of alpha only where none fades or is dropped; leave out "
            f"{'half_life' if changing.half_life is not None else 'slots'}"
        )


def changing_kernel(changing: Changing, kernel: Kernel, scale: Float[np.ndarray, " D"], dtype: np.dtype[Any]) -> Kernel:
    """The kernel with what changes in it; a unit of its data is ``scale``. Its law must be a Pitman-Yor process."""
    law: Any = kernel.law

    def array(value: Any) -> jax.Array:
        return jnp.asarray(np.asarray(value, dtype))

    if changing.half_life is not None and changing.half_life < np.inf:
        worth = age_kernel(changing.half_life, changing.fading, changing.fading_exponent)
        kernel = replace(kernel, law=fading_process(float(law.alpha), float(law.discount), worth, dtype))
    if changing.drift > 0:
        kernel = replace(kernel, motion=RandomWalk(array(changing.drift / scale**2)))
    elif changing.forget is not None:
        rate = np.log(2) / changing.forget
        is_statistics = changing.forgetting == "statistics"
        kernel = replace(
            kernel, motion=Forgetting(array(rate)) if is_statistics else Diffusion(array(-np.expm1(-rate)))
        )
    if changing.slots:
        kernel = replace(kernel, slots=jnp.asarray(changing.slots, jnp.int32))
    if changing.learn_alpha is not None:
        discount_prior = None if changing.learn_discount is None else array(changing.learn_discount)
        is_dirichlet = discount_prior is None and float(law.discount) == 0
        learning = Learning(array(changing.learn_alpha), discount_prior, changing.learn_every, is_dirichlet)
        if discount_prior is not None and float(law.discount) == 0:  # where a slice can begin
            first, second = changing.learn_discount  # type: ignore[misc]
            law = replace(law, discount=array(first / (first + second)))
        kernel = replace(kernel, law=law, learning=learning)
    return kernel


# --- what a stream says of itself -----------------------------------------------------------------------------


def worth(kernel: Kernel, state: StreamState) -> Float[np.ndarray, " K"]:
    """Probability of each slot's memory before the next datum is seen."""
    nothing = jnp.zeros_like(state.live)
    log_weights = np.asarray(log_seats(kernel, state, nothing))
    return np.where(np.asarray(state.live), np.exp(log_weights), 0)


def places(kernel: Kernel, state: StreamState) -> Float[np.ndarray, "K D"] | None:
    """Posterior mean of each memory as it is for the next datum; None for a pair of which none is known."""
    if kernel.motion is None:
        means = locations(kernel.pair, state.counts, state.sums)
    else:
        rows = present(kernel, state)
        if isinstance(rows, Place):
            pair: Any = kernel.pair
            off = rows.mean if pair.basis is None else jnp.linalg.solve(pair.basis[0], rows.mean.T).T
            return np.asarray(pair.loc + off)
        means = locations(*kernel.motion.given(kernel.pair, rows))
    return None if means is None else np.asarray(means)


class Last(NamedTuple):
    """A partition to draw sites from, largest memory first and one that is empty last."""

    pair: ConjugatePair | None  # None: the family's own
    counts: Float[np.ndarray, " M"]
    sums: Float[np.ndarray, "M F"]
    seats: Float[np.ndarray, " M"]
    """Counts as the weights see them."""


def last_partition(kernel: Kernel, state: StreamState, num_memories: int) -> Last:
    """What the memories are and weigh for the next datum, as counts and sums of a stationary partition.

    Where counts fade and the discount is not zero, the mass of a new memory is that of the faded counts only to
    within the faded part of the discounts.
    """
    seats, sums = by_size(state, num_memories)
    counts = seats
    slots = slots_by_size(state)
    if not isinstance(state.traces, tuple):
        alpha, discount = float(kernel.law.alpha), float(kernel.law.discount)  # type: ignore[union-attr]
        shares = worth(kernel, state)[slots]
        old = discount * np.sum(shares / (seats[: len(slots)] - discount))
        total = alpha / max(1 - shares.sum() - old, np.finfo(shares.dtype).tiny)  # alpha and all that is left
        seats = np.zeros_like(seats)
        seats[: len(slots)] = np.maximum(shares * total + discount, discount + 1e-6)
    pair = None
    if kernel.motion is not None:
        num_empty = num_memories - len(slots)
        empty = kernel.motion.empty(kernel.pair, jnp.zeros((num_empty, state.totals.shape[1]), state.totals.dtype))
        rows = jax.tree.map(lambda old, new: jnp.concatenate([old[slots], new]), present(kernel, state), empty)
        pair, *kept = kernel.motion.given(kernel.pair, rows)
        counts, sums = (np.asarray(leaf) for leaf in kept)
        pair = pair if isinstance(rows, Place) else None
    return Last(pair, counts, sums, seats)


def tail_warnings(state: StreamState, kernel: Kernel) -> list[str]:
    """A sentence where the sizes of the memories contradict the Dirichlet process that the stream assumes."""
    discount = state.hyper.discount if isinstance(state.hyper, Hyper) else kernel.law.discount  # type: ignore[union-attr]
    if float(discount) > 0 or kernel.slots is not None or not isinstance(state.traces, tuple):
        return []
    counts = np.asarray(state.counts)[np.asarray(state.live)]
    try:
        tail = tail_of(np.round(counts))
    except InputError:  # too few to say anything
        return []
    if not tail.p_value < _SURE:
        return []
    return [
        f"discount: the sizes of the {len(counts)} memories fall off as a power law, which a Dirichlet process does "
        f"not make (p = {tail.p_value:.1g}); discount={tail.discount:.2f} (standard error {tail.discount_se:.2f}) with "
        f"alpha={tail.alpha:.3g} fits them best, and learn_discount=True learns it"
    ]
