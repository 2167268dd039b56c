"""Conjugate gradients over data larger than memory: each look at the log joint and its gradient is a pass.

Both are sums over the rows and a term of the prior, so that the steps are those of rows in memory, to rounding. The
line search asks for the whole gradient at each trial, which costs little more than the slope, and the one at the step
that is taken begins the next. Sums, prior and steps are in double precision. An end is polished as it is in memory, by
a few more passes (:mod:`probam.inference.gradient_em.polish_blocks`).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from probam.distributions.likelihood import shares
from probam.family import Model, Params
from probam.inference.common.blocks import RowBlocks, in_cache, in_double, summed
from probam.inference.common.coordinates import Coordinates
from probam.inference.common.progress import Reporter, silent
from probam.inference.gradient_em.ascent import Ascent, conjugate_ray, moved
from probam.inference.gradient_em.line_search import is_open, narrowed, wide_bracket
from probam.inference.gradient_em.polish import FLAT
from probam.inference.gradient_em.polish_blocks import Look, Sample, polished_in_blocks
from probam.inference.gradient_em.units import ScaledCoordinates, units

__all__ = ["EndOfAll", "climb_in_blocks"]

_JUDGED = 5
"""Steps after which it is asked whether the run still rises."""

_conjugate_ray = jax.jit(conjugate_ray)
_moved = jax.jit(moved)
_narrowed = jax.jit(narrowed, static_argnames="backtrack")


class EndOfAll(NamedTuple):
    """Where a run over all rows ended."""

    params: Params
    final: Float[Array, ""]
    """Log joint, nats."""
    trace: Float[np.ndarray, " I"]
    """Of the log joint, before each step and at the end."""
    at_rest: bool
    """Whether it rises no more."""
    promised: float
    """Nats per datum that the slope at the end promises, were one datum to hold one unit of information."""


class _LogJoint:
    """The log joint of all rows, each look at which is a pass."""

    def __init__(self, model: Model, unit: Params, blocks: RowBlocks, progress: Reporter) -> None:
        self._model, self._unit, self._blocks, self._progress = model, unit, blocks, progress
        self._passes = 0

    def __call__(self, z: Float[Array, " P"]) -> Look:
        self._passes += 1
        text = f"gradient EM, pass {self._passes} over {self._blocks.num_data:,} rows"
        shared = (self._model, self._unit, z)
        of_rows = summed(_of_block, shared, self._blocks, width=2 * z.size, progress=self._progress, text=text)
        value, gradient = jax.tree.map(jnp.add, in_double(of_rows), _of_prior(*shared))
        return Look(z, value, gradient)


@jax.jit
def _of_block(
    shared: tuple[Model, Params, jax.Array], x: Float[Array, "B D"], weight: Float[Array, " B"]
) -> tuple[Float[Array, ""], Float[Array, " P"]]:
    """Log likelihood and gradient of a block, a few rows at a time."""
    model, unit, z = shared
    coordinates = ScaledCoordinates(model, unit)

    def log_likelihood(z: jax.Array, rows: jax.Array, counted: jax.Array) -> jax.Array:
        mixture = model.mixture(coordinates.constrain(coordinates.unflatten(z)))
        return shares(mixture.log_joint(rows), counted)[0]

    def add(
        total: tuple[jax.Array, jax.Array], part: tuple[jax.Array, jax.Array]
    ) -> tuple[tuple[jax.Array, jax.Array], None]:
        return jax.tree.map(jnp.add, total, jax.value_and_grad(log_likelihood)(z, *part)), None

    parts = in_cache(x, weight, model.num_components)
    return jax.lax.scan(add, (jnp.zeros((), x.dtype), jnp.zeros_like(z)), parts)[0]


@jax.jit
def _of_prior(model: Model, unit: Params, z: Float[Array, " P"]) -> tuple[Float[Array, ""], Float[Array, " P"]]:
    coordinates = ScaledCoordinates(model, unit)
    return jax.value_and_grad(lambda z: coordinates.log_prior(coordinates.unflatten(z)))(z)


def climb_in_blocks(
    model: Model,
    start: Params,
    x: Float[Array, "M D"],
    blocks: RowBlocks,
    *,
    max_iterations: int,
    tolerance: float,
    progress: Reporter = silent,
) -> EndOfAll:
    """Where one run of conjugate gradients over all rows ends.

    Args:
        model: the mixture, told how often each of these rows counts.
        start: site values to begin from.
        x: (M, D) some of the rows, in model units, from which the units of the coordinates are taken; an end is
            polished through them.
        blocks: all rows.
        max_iterations: most steps.
        tolerance: nats per datum by which five steps have to raise the log joint for the run to go on.
        progress: told after every block, and after each step asked whether to stop.
    """
    unit = units(model, x)
    trace: list[float] = []
    at_rest, begin = False, 0
    with jax.enable_x64(True):
        unit, start = blocks.agreed(in_double((unit, start)))
        sample = Sample.of(model, unit, x, blocks)
        model = sample.model
        coordinates = ScaledCoordinates(model, unit)
        log_joint = _LogJoint(model, unit, blocks, progress)
        climber, phase = _before_the_first_step(coordinates, start), progress.phase("gradient EM over all rows")
        before = phase.resumed(climber)
        if before is not None:
            climber, trace = before.state, before.kept["trace"][0].tolist()
            begin = max_iterations if before.ended else before.done
            at_rest = before.ended and before.done < max_iterations
        look = log_joint(climber.z)
        for done in range(begin, max_iterations):
            trace.append(float(look.value))
            was_steepest = not np.any(climber.direction)
            climber, look = _step(log_joint, climber, look)
            fell_back = was_steepest and not float(climber.step) > 0
            rise = float(look.value) - trace[-_JUDGED] if len(trace) >= _JUDGED else np.inf
            at_rest = fell_back or not rise > tolerance * blocks.total_weight
            ended = at_rest or done + 1 == max_iterations
            phase.save(done + 1, climber, [{"trace": np.asarray([trace])}], ended=ended)
            if ended or progress.stopped:
                break
        promised = 0.5 * float(jnp.sum((look.gradient / blocks.total_weight) ** 2))
        if at_rest and promised <= FLAT:
            look = polished_in_blocks(log_joint, look, sample, blocks, progress)
        params = coordinates.constrain(coordinates.unflatten(look.z))
    return EndOfAll(params, look.value, np.asarray([*trace, float(look.value)]), at_rest, promised)


def _before_the_first_step(coordinates: Coordinates, start: Params) -> Ascent:
    z = coordinates.flatten(coordinates.unconstrain(start))
    nothing, number = jnp.zeros_like(z), jnp.zeros((), z.dtype)
    return Ascent(z, nothing, nothing, number, number - jnp.inf)


def _step(log_joint: _LogJoint, climber: Ascent, look: Look) -> tuple[Ascent, Look]:
    """The run after one step, and what is seen from there."""
    ray = _conjugate_ray(climber, look.gradient)
    bracket, best = wide_bracket(ray.slope, ray.first), look
    while bool(is_open(bracket)):
        there = log_joint(climber.z + bracket.trial * ray.direction)
        tilt = jnp.sum(there.gradient * ray.direction)
        after = _narrowed(bracket, ray.slope, there.value - look.value, tilt, backtrack=False)
        best = there if bool(after.best != bracket.best) else best
        bracket = after
    return _moved(climber, look.value, look.gradient, ray, bracket.best), best
