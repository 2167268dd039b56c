"""What the draws of a posterior say of rows: log density, memory, confidence.

Rows are taken in blocks whose responsibilities stay in a core's cache, and are shared out over the devices where there
are many; memory does not grow with rows x memories unless the responsibilities themselves are asked for.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from probam.compiled import compiled_by_work
from probam.distributions.mixture import MemoryMixture
from probam.distributions.pairwise import linear_form
from probam.errors import RowError
from probam.family import Model, Params
from probam.fits.questions import padded_alike
from probam.placement import devices_worth, in_blocks, rows_at_once

__all__ = ["Answers", "Leading", "begin", "numbers_of_a_row", "responsibilities"]


class Leading(NamedTuple):
    """The memories of largest responsibility of each row, the largest first; of equal ones the lower number."""

    memory: Int[Array | np.ndarray, "N T"]  # numbers of relabelled memories
    probability: Float[Array | np.ndarray, "N T"]  # their responsibilities, posterior means


class Answers(NamedTuple):
    """One of each for a row."""

    log_density: Float[Array | np.ndarray, " N"]  # log posterior predictive density, nats
    label: Int[Array | np.ndarray, " N"]  # the relabelled memory of the largest responsibility; K where that is NaN
    confidence: Float[Array | np.ndarray, " N"]  # that responsibility
    responsibilities: Float[Array | np.ndarray, "N K"] | None  # posterior means; NaN where every density is 0
    confidence_sd: Float[Array | np.ndarray, " N"] | None  # over the draws, of the label's responsibility
    leading: Leading | None = None

    def owned(self) -> "Answers":
        """The same; raises :class:`probam.errors.InputError` where a row has density 0 under every memory."""
        undefined = np.isnan(self.confidence)
        if undefined.any():
            raise RowError(
                f"data: {undefined.sum()} of {len(undefined)} rows have density 0 under every memory, the first is ",
                np.flatnonzero(undefined)[0],
                "; responsibilities are 0 / 0 there; leave these rows out",
            )
        return self


def begin(
    model: Model,
    sites: Params,
    permutations: Int[Array | np.ndarray, "S K"],
    x: Float[np.ndarray, "N D"],
    *,
    each: bool,
    spread: bool = False,
    top: int = 0,
    allowed: Bool[np.ndarray, "N K"] | None = None,
) -> Callable[[], Answers]:
    """What S draws say of rows in model units, begun on the devices: what is returned waits for them.

    Until then the rows must not be changed: a CPU computes where they are.

    Args:
        model: the mixture; with ``missing`` where entries are.
        sites: site values of the draws.
        permutations: how the memories of each draw are relabelled.
        x: rows.
        each: whether the responsibility of each memory is asked for.
        spread: whether the standard deviation of the confidence is asked for, which goes through the draws again.
        top: how many leading memories of each row are asked for: no array of all rows and memories is made.
        allowed: of rows of which it is known to which memories they may belong; the others take no part in them.
    """
    num_rows = len(x)
    x, allowed = padded_alike(model.num_components, x, allowed)
    devices = devices_worth(x.size * permutations.size)
    known = [None] * len(devices) if allowed is None else np.array_split(allowed, len(devices))
    parts = []
    for rows, of_rows, device in zip(np.array_split(x, len(devices)), known, devices, strict=True):
        of_device = jax.device_put((model, sites, permutations, rows, of_rows), device)
        parts.append(_in_blocks(*of_device, each=each, spread=spread, top=top))

    def joined() -> Answers:
        together: Answers = jax.tree.map(lambda *leaves: np.concatenate(leaves)[:num_rows], *parts)
        return together

    return joined


def responsibilities(
    model: Model,
    sites: Params,
    permutations: Int[Array | np.ndarray, "S K"],
    x: Float[Array | np.ndarray, "N D"],
    allowed: Bool[np.ndarray, "N K"] | None = None,
) -> Float[np.ndarray, "N K"]:
    """The responsibilities alone, with the arguments of :func:`begin`."""
    return np.asarray(begin(model, sites, permutations, np.asarray(x), each=True, allowed=allowed)().responsibilities)


@compiled_by_work(
    lambda _, sites, __, x, *___, **____: (sites, len(x)), repeated=True, static_argnames=("each", "spread", "top")
)
def _in_blocks(
    model: Model,
    sites: Params,
    permutations: Int[Array, "S K"],
    x: Float[Array, "N D"],
    allowed: Bool[Array, "N K"] | None,
    *,
    each: bool,
    spread: bool,
    top: int = 0,
) -> Answers:
    num_rows = len(x)
    params = jax.tree.map(lambda leaf: leaf[0], sites)
    block = rows_at_once(num_rows, numbers_of_a_row(model, params, x), x.dtype)
    if num_rows == block:
        return _of_block(model, sites, permutations, x, allowed, each=each, spread=spread, top=top)
    return in_blocks(
        lambda rows: _of_block(model, sites, permutations, *rows, each=each, spread=spread, top=top),
        (x, allowed),
        block,
    )


def numbers_of_a_row(model: Model, params: Params, x: Float[Array, "N D"]) -> int:
    """How many numbers one row takes: features, statistics and responsibilities.

    Args:
        model: the mixture.
        params: site values of one draw.
        x: rows.
    """
    form = None if model.missing else linear_form(model.mixture(params).bank, x[:1])
    statistics = 0 if form is None else sum(columns.shape[1] for columns in form.statistics)
    return x.shape[1] + statistics + model.num_components


_Carry = tuple[jax.Array, jax.Array]
"""The sum of responsibilities (K, B) and the log of the sum of densities (B,) over draws."""


def _of_block(
    model: Model,
    sites: Params,
    permutations: Int[Array, "S K"],
    x: Float[Array, "B D"],
    allowed: Bool[Array, "B K"] | None,
    *,
    each: bool,
    spread: bool,
    top: int,
) -> Answers:
    num_draws, num_memories = permutations.shape

    def add(carry: _Carry, draw: tuple[Params, jax.Array]) -> tuple[_Carry, None]:
        params, permutation = draw
        log_prob, shares = _shared_out(model.mixture(params), x, allowed)
        mean, log_density = carry
        return (mean + shares[permutation] / num_draws, jnp.logaddexp(log_density, log_prob)), None

    nothing = (jnp.zeros((num_memories, len(x)), x.dtype), jnp.full(len(x), -jnp.inf, x.dtype))
    (mean, log_density), _ = jax.lax.scan(add, nothing, (sites, permutations))
    confidence, numbers = jnp.max(mean, axis=0), jnp.arange(num_memories, dtype=jnp.int32)[:, None]
    label = jnp.min(jnp.where(mean == confidence, numbers, num_memories), axis=0)
    log_density = log_density - np.log(x.dtype.type(num_draws))

    def add_square(total: jax.Array, draw: tuple[Params, jax.Array]) -> tuple[jax.Array, None]:
        params, permutation = draw
        shares = _shared_out(model.mixture(params), x, allowed)[1][permutation]
        own = jnp.take_along_axis(shares, label[None], axis=0, mode="clip")[0]
        return total + (own - confidence) ** 2 / num_draws, None

    squares = jax.lax.scan(add_square, jnp.zeros_like(confidence), (sites, permutations))[0] if spread else None
    confidence_sd = None if squares is None else jnp.sqrt(squares)
    leading = None
    if top:
        probability, memory = jax.lax.top_k(mean.T, top)
        leading = Leading(memory, probability)
    return Answers(log_density, label, confidence, mean.T if each else None, confidence_sd, leading)


def _shared_out(
    mixture: MemoryMixture, x: Float[Array, "B D"], allowed: Bool[Array, "B K"] | None
) -> tuple[Float[Array, " B"], Float[Array, "K B"]]:
    """Log density and responsibilities of rows, memories first: sums go along rows."""

    def near() -> tuple[Float[Array, " B"], Float[Array, "K B"]]:
        return _normalised(mixture.log_joint_by_memory(x), allowed)

    def anywhere() -> tuple[Float[Array, " B"], Float[Array, "K B"]]:
        here, nearby = (log_joint.T for log_joint in mixture.log_joints(x))
        return _normalised(here, allowed)[0], _normalised(nearby, allowed)[1]

    far = mixture.has_far_rows(x)
    if isinstance(far, bool):
        return anywhere() if far else near()
    found: tuple[jax.Array, jax.Array] = jax.lax.cond(far, anywhere, near)
    return found


def _normalised(
    logits: Float[Array, "K B"], allowed: Bool[Array, "B K"] | None
) -> tuple[Float[Array, " B"], Float[Array, "K B"]]:
    """Logs of the sums of exponentials, and the shares; -inf and NaN where all logits are -inf."""
    if allowed is not None:
        logits = jnp.where(allowed.T, logits, -jnp.inf)
    top = jnp.max(logits, axis=0)
    top = jnp.where(jnp.isinf(top), 0, top)
    unnormalised = jnp.exp(logits - top)
    total = jnp.sum(unnormalised, axis=0)
    return top + jnp.log(total), unnormalised * (1 / total)
