"""CAVI over data larger than memory: whole passes, whose labels are summed block by block.

All other factors are brought to their best in double precision.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from probam.conjugacy.mean_field import MeanField
from probam.inference.cavi.steps import (
    Parts,
    State,
    Totals,
    View,
    arrange,
    counted_last,
    labels_of,
    ordered,
    proposed,
    refined,
)
from probam.inference.common.blocks import RowBlocks, in_double, summed
from probam.inference.common.progress import Reporter, silent

__all__ = ["converge_in_blocks", "stands_for_all"]


def stands_for_all(state: State, scale: float) -> State:
    """A first state for all rows from one for a sample of them.

    Args:
        state: of the sample.
        scale: how many rows each row of the sample stands for.
    """
    seen = counted_last(state)
    return proposed(1, state.factors, state.hyper, Totals(seen.counts * scale, seen.sums * scale, seen.entropy * scale))


def converge_in_blocks(
    parts: Parts, state: State, blocks: RowBlocks, rise: float, max_iterations: int, progress: Reporter = silent
) -> tuple[State, Float[np.ndarray, " I"]]:
    """Passes over all rows until one raises the bound by less than ``rise`` nats, and the bound at each.

    Args:
        parts: the mean field.
        state: the first one, whose labels are not brought together with its factors yet.
        blocks: all rows.
        rise: nats.
        max_iterations: most passes after the first, which does that.
        progress: told after each block, and after each pass asked whether to stop.
    """
    num_components, num_statistics = state.seen.sums.shape
    width, text = num_components * num_statistics, f"CAVI, first look at {blocks.num_data:,} rows"
    constant = progress.phase("CAVI, first look").once(
        partial(summed, _constant_of_block, parts.memories, blocks, width=width, progress=progress, text=text),
        like=np.zeros(()),
    )
    trace: list[float] = []
    with jax.enable_x64(True):
        parts, state, constant = in_double((parts, state, constant))
        phase, begin = progress.phase("CAVI over all rows"), 0
        saved = phase.resumed(state)
        if saved is not None:
            state, trace = saved.state, saved.kept["bound"][0].tolist()
            begin = 1 + max_iterations if saved.ended else saved.done
        for done in range(begin, 1 + max_iterations):
            before, state = state, _refined(parts, constant, state)
            text = f"CAVI, pass {done + 1} over {blocks.num_data:,} rows"
            totals = summed(_labels_of_block, (parts, state.view), blocks, width=width, progress=progress, text=text)
            state = _ordered(parts, state, in_double(totals))
            trace.append(float(state.bound))
            ended = not bool(before.fresh) and not float(state.bound) - float(before.bound) > rise
            state = state._replace(done=jnp.asarray(ended))
            phase.save(done + 1, state, [{"bound": np.asarray([trace])}], ended=ended or done == max_iterations)
            if ended or (progress.stopped and len(trace) > 1):
                break
    return state, np.asarray(trace[1:])


@jax.jit
def _constant_of_block(memories: MeanField, x: Float[Array, "B D"], weight: Float[Array, " B"]) -> Float[Array, ""]:
    return weight @ jax.vmap(lambda row: memories.constant(row[None]))(x)


@jax.jit
def _labels_of_block(shared: tuple[Parts, View], x: Float[Array, "B D"], weight: Float[Array, " B"]) -> Totals:
    parts, view = shared
    data = arrange(parts.memories, x, len(x), weight, len(view.offset))
    return labels_of(parts, data, data.rows[0], data.valid[0], view)


@jax.jit
def _refined(parts: Parts, constant: Float[Array, ""], state: State) -> State:
    return refined(parts, constant, state, counted_last(state))


@jax.jit
def _ordered(parts: Parts, state: State, totals: Totals) -> State:
    return ordered(parts, state._replace(by_batch=Totals(*(leaf[None] for leaf in totals))))
