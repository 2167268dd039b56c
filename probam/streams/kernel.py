"""The kernel of a stream, made from its options and the conjugate pair of its memories."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from probam.conjugacy.pairs import ConjugatePair
from probam.inference.stream.decay import age_kernel, fading_process
from probam.inference.stream.drift import Diffusion, Forgetting, Motion, RandomWalk
from probam.inference.stream.hyper import Learning
from probam.inference.stream.kernel import Kernel, check_kernel
from probam.inference.stream.rejuvenation import Moves, check_moves
from probam.inference.stream.tidy import Tidy
from probam.inference.stream.weights import PitmanYor
from probam.streams.options import StreamOptions

__all__ = ["rejuvenation_moves", "stream_kernel", "tidying"]


def stream_kernel(
    options: StreamOptions, pair: ConjugatePair, scale: Float[np.ndarray, " D"], dtype: np.dtype[Any]
) -> Kernel:
    """The kernel that the options describe, after a check against the pair.

    Args:
        options: options of the stream.
        pair: conjugate pair of the memories, in model units.
        scale: one model unit of each feature, in data units.
        dtype: precision.
    """
    law = PitmanYor(_array(options.alpha, dtype), _array(options.discount, dtype))
    kernel = Kernel(pair, law, options.energy, options.assignment_rule)
    if options.half_life is not None and options.half_life < np.inf:
        ages = age_kernel(options.half_life, options.fading, options.fading_exponent)
        kernel = replace(kernel, law=fading_process(float(law.alpha), float(law.discount), ages, dtype))
    kernel = replace(kernel, motion=_motion(options, scale, dtype))
    if options.slots:
        kernel = replace(kernel, slots=jnp.asarray(options.slots, jnp.int32))
    if options.alpha_prior is not None:
        kernel = _with_learning(kernel, law, options.alpha_prior, options, dtype)
    check_kernel(kernel)
    moves = rejuvenation_moves(options)
    if moves is not None:
        check_moves(moves, kernel)
    return kernel


def _array(value: Any, dtype: np.dtype[Any]) -> jax.Array:
    return jnp.asarray(np.asarray(value, dtype))


def _motion(options: StreamOptions, scale: Float[np.ndarray, " D"], dtype: np.dtype[Any]) -> Motion | None:
    """How memories change while they are not used."""
    if options.drift > 0:
        return RandomWalk(_array(options.drift / scale**2, dtype))
    if options.forget is None:
        return None
    rate = np.log(2) / options.forget
    if options.forgetting == "statistics":
        return Forgetting(_array(rate, dtype))
    return Diffusion(_array(-np.expm1(-rate), dtype))


def _with_learning(
    kernel: Kernel,
    law: PitmanYor,
    alpha_prior: tuple[float, float],
    options: StreamOptions,
    dtype: np.dtype[Any],
) -> Kernel:
    """The kernel with a process whose alpha, and perhaps discount, are learned."""
    is_dirichlet = float(law.discount) == 0
    if options.discount_prior is None:
        learning = Learning(_array(alpha_prior, dtype), None, options.learn_every, is_dirichlet)
        return replace(kernel, law=law, learning=learning)
    if is_dirichlet:  # a slice sampler cannot begin at 0
        first, second = options.discount_prior
        law = replace(law, discount=_array(first / (first + second), dtype))
    learning = Learning(_array(alpha_prior, dtype), _array(options.discount_prior, dtype), options.learn_every, False)
    return replace(kernel, law=law, learning=learning)


def rejuvenation_moves(options: StreamOptions) -> Moves | None:
    """The moves that reassign the rows of the window; None for never."""
    return Moves(options.rejuvenate_every) if options.rejuvenate_every else None


def tidying(options: StreamOptions) -> Tidy | None:
    """When memories are pruned and merged; None for never."""
    if not options.tidy_every:
        return None
    return Tidy(options.tidy_every, options.merge, options.prune_count, options.prune_age)
