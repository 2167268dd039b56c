"""The last digits of an end over data larger than memory: Newton steps, as :mod:`probam.inference.gradient_em.polish`
takes them in memory.

A product of the Hessian with a vector is a sum over the rows too, and so a pass. Conjugate gradients take few of them
where they are preconditioned: by the inverse Hessian of the sample in memory, which stands for all rows.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.sparse.linalg import LinearOperator, cg

from probam.distributions.likelihood import shares
from probam.family import Model, Params
from probam.inference.common.blocks import RowBlocks, in_cache, in_double, summed
from probam.inference.common.progress import Reporter
from probam.inference.gradient_em.polish import PRODUCTS, ROUNDING, STEPS
from probam.inference.gradient_em.units import ScaledCoordinates

__all__ = ["Look", "Sample", "polished_in_blocks"]

_PASSES = 20
"""Most products with the Hessian of all rows for a step."""

_SOLVED = {np.dtype(np.float64): 1e-6, np.dtype(np.float32): 1e-3}
"""Slope that a step leaves, as a share of the one before: rows in single precision tell no more."""


class Look(NamedTuple):
    """The log joint of all rows at a point (nats), and its gradient."""

    z: Float[Array, " P"]
    value: Float[Array, ""]
    gradient: Float[Array, " P"]


class Sample(NamedTuple):
    """Rows in memory that stand for all, and the log joint that they estimate."""

    model: Model
    unit: Params
    """Of the coordinates, see :mod:`probam.inference.gradient_em.units`."""
    x: Float[Array, "M D"]
    weight: Float[Array, " M"]
    """How many of all data each row stands for."""

    @classmethod
    def of(cls, model: Model, unit: Params, x: Float[Array, "M D"], blocks: RowBlocks) -> "Sample":
        """The sample of some rows, all of it in double precision.

        Args:
            model: the mixture, told how often each of these rows counts.
            unit: of the coordinates.
            x: the rows.
            blocks: all rows.
        """
        weight = np.ones(len(x)) if model.row_weight is None else np.asarray(model.row_weight, np.float64)
        plain, unit, x = in_double((model.with_row_weight(None), unit, x))
        return cls(plain, unit, x, in_double(weight * (blocks.total_weight / weight.sum())))


def polished_in_blocks(
    log_joint: Callable[[Float[Array, " P"]], Look],
    look: Look,
    sample: Sample,
    blocks: RowBlocks,
    progress: Reporter,
) -> Look:
    """The maximum beside a point, if Newton's steps lead there; else the same point.

    Args:
        log_joint: of all rows, each look at which is a pass.
        look: where a search ended.
        sample: some of the rows.
        blocks: all rows.
        progress: told after every block, and after each step asked whether to stop.
    """
    phase, begin = progress.phase("gradient EM, last digits"), 0
    before = phase.resumed(look)
    if before is not None:
        look, begin = before.state, STEPS if before.ended else before.done
    for done in range(begin, STEPS):
        there = log_joint(look.z + _newton_step(look, sample, blocks, progress))
        rounding = ROUNDING * np.finfo(blocks.dtype).eps * abs(float(look.value))
        is_flatter = float(jnp.linalg.norm(there.gradient)) < float(jnp.linalg.norm(look.gradient))
        is_better = is_flatter and float(there.value) >= float(look.value) - rounding
        look = there if is_better else look
        phase.save(done + 1, look, ended=not is_better or done + 1 == STEPS)
        if not is_better or progress.stopped:
            break
    return look


def _newton_step(look: Look, sample: Sample, blocks: RowBlocks, progress: Reporter) -> Float[Array, " P"]:
    """Minus the inverse Hessian of all rows times the gradient; finite or not."""
    size = look.z.size
    text = f"gradient EM, last digits, reading {blocks.num_data:,} rows"

    def product(v: np.ndarray) -> np.ndarray:
        shared = (sample.model, sample.unit, look.z, jnp.asarray(v))
        of_rows = summed(_product_of_block, shared, blocks, width=4 * size, progress=progress, text=text)
        return -np.asarray(of_rows + np.asarray(_product_of_prior(*shared)))

    def near(v: np.ndarray) -> np.ndarray:
        return np.asarray(blocks.agreed(_solved(sample, look.z, jnp.asarray(v))))

    all_rows, some = (LinearOperator((size, size), matvec=each, dtype=np.float64) for each in (product, near))
    share = _SOLVED[np.dtype(blocks.dtype)]
    step, _ = cg(all_rows, np.asarray(look.gradient), rtol=share, maxiter=_PASSES, M=some)
    return jnp.asarray(step)


@jax.jit
def _product_of_block(
    shared: tuple[Model, Params, jax.Array, jax.Array], x: Float[Array, "B D"], weight: Float[Array, " B"]
) -> Float[Array, " P"]:
    """The Hessian of a block's log likelihood times a vector, a few rows at a time."""
    model, unit, z, v = shared
    coordinates = ScaledCoordinates(model, unit)

    def log_likelihood(z: jax.Array, rows: jax.Array, counted: jax.Array) -> jax.Array:
        mixture = model.mixture(coordinates.constrain(coordinates.unflatten(z)))
        return shares(mixture.log_joint(rows), counted)[0]

    def add(total: jax.Array, part: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        return total + jax.jvp(jax.grad(lambda z: log_likelihood(z, *part)), (z,), (v,))[1], None

    parts = in_cache(x, weight, model.num_components)
    total: jax.Array = jax.lax.scan(add, jnp.zeros_like(z), parts)[0]
    return total


@jax.jit
def _product_of_prior(model: Model, unit: Params, z: Float[Array, " P"], v: Float[Array, " P"]) -> Float[Array, " P"]:
    coordinates = ScaledCoordinates(model, unit)
    gradient = jax.grad(lambda z: coordinates.log_prior(coordinates.unflatten(z)))
    product: jax.Array = jax.jvp(gradient, (z,), (v,))[1]
    return product


@jax.jit
def _solved(sample: Sample, z: Float[Array, " P"], v: Float[Array, " P"]) -> Float[Array, " P"]:
    """The inverse of minus the Hessian that the sample estimates, times a vector."""
    coordinates = ScaledCoordinates(sample.model.with_row_weight(sample.weight), sample.unit)

    def log_joint(z: jax.Array) -> jax.Array:
        return coordinates.log_joint(coordinates.unflatten(z), sample.x)

    _, product = jax.linearize(jax.grad(log_joint), z)
    return jax.scipy.sparse.linalg.cg(lambda v: -product(v), v, tol=1e-8, maxiter=PRODUCTS)[0]
