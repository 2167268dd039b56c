"""Claim D5: one-shot writes in sequence are Bayesian linear regression in one batch.

Physics: :mod:`probam.energies.predictive_coding` (rank-one writes, surprise, forgetting). Statistics:
:mod:`probam.distributions.linear_regression` (the batch posterior, the evidence), NumPyro's normals.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array

from probam.claims.claim import Piece, extreme, ordinary, register, relative_error
from probam.claims.inputs import Floats, generator
from probam.distributions import linear_regression
from probam.energies import predictive_coding

__all__: list[str] = []

_YOO = "Yoo and Wood (2022), BayesPCN (abstract)"


def _pairs(
    key: jax.Array,
    *,
    num_pairs: int = 6,
    num_inputs: int = 4,
    num_outputs: int = 3,
    noise: float = 0.5,
    duplicates: bool = False,
) -> dict[str, Floats]:
    """Activities, targets, the prior of the weights and the noise."""
    draw = generator(key)
    root = draw.normal(size=(num_inputs, num_inputs)) / np.sqrt(num_inputs)
    activities = draw.normal(size=(num_pairs, num_inputs))
    if duplicates:
        activities[-1] = activities[0]
    return {
        "activities": activities,
        "targets": draw.normal(size=(num_pairs, num_outputs)) * 2 + 0.5,
        "mean": draw.normal(size=(num_outputs, num_inputs)),
        "covariance": root @ root.T + 0.3 * np.eye(num_inputs),
        "noise": np.asarray(noise),
    }


_WRITES = (
    ordinary("6 pairs, 4 features"),
    ordinary("3 pairs, 5 features", num_pairs=3, num_inputs=5),
    extreme("one pair, one feature", num_pairs=1, num_inputs=1),
    extreme("noise 1e-4", noise=1e-4, tolerance=1e-6),  # condition number 1e8
    extreme("noise 1e6", noise=1e6),
    extreme("an activity twice", duplicates=True),
)


def _write_all(
    layer: predictive_coding.Layer,
    activities: Array,
    targets: Array,
    noise: Array,
    write: Callable[..., predictive_coding.Layer] = predictive_coding.write,
) -> tuple[predictive_coding.Layer, Array]:
    """The layer after all pairs in order, and the surprise of each before it was written."""

    def one(layer: predictive_coding.Layer, pair: tuple[Array, Array]) -> tuple[predictive_coding.Layer, Array]:
        return write(layer, *pair, noise), predictive_coding.surprise(layer, *pair, noise)

    written, surprises = jax.lax.scan(one, layer, (activities, targets))
    return written, surprises


def _outer_write(
    layer: predictive_coding.Layer, activity: Array, target: Array, noise: Array
) -> predictive_coding.Layer:
    """Hebb's write: the outer product with the same gain, the covariance left as it is."""
    return layer._replace(mean=predictive_coding.write(layer, activity, target, noise).mean)


@register(
    id="D5.write",
    source=_YOO,
    title="one-shot writes in sequence are the batch posterior",
    statement=(
        "x = W phi + N(0, s^2), W ~ MN(M0, I, S0): N rank-one writes, in any order, give "
        "S^-1 = S0^-1 + Phi'Phi/s^2 and M = (M0 S0^-1 + X'Phi/s^2) S"
    ),
    latex=(
        r"\Sigma^{-1} = \Sigma_0^{-1} + \Phi^\top\Phi/\sigma^2,\quad "
        r"M = (M_0\Sigma_0^{-1} + X^\top\Phi/\sigma^2)\,\Sigma\quad\text{after rank-one writes in any order}"
    ),
    printed_statement="the abstract prints no equation",
    verdict="NEW",
    relation="equal",
    constant="none",
    inputs=_pairs,
    cases=_WRITES,
    tolerance=1e-12,
    tolerance_extreme=1e-10,
    exact={"noise_of_writes": lambda noise: noise, "write": predictive_coding.write, "kept": slice(None), "start": 1.0},
    mutations={
        "noise in place of its square": {"noise_of_writes": jnp.sqrt},
        "covariance not updated": {"write": _outer_write},
        "one write left out": {"kept": slice(1, None)},
        "prior mean left out": {"start": 0.0},
    },
)
def sequential_writes_are_the_batch_posterior(
    activities: Array,
    targets: Array,
    mean: Array,
    covariance: Array,
    noise: Array,
    *,
    noise_of_writes: Piece,
    write: Callable[..., predictive_coding.Layer],
    kept: slice,
    start: float,
) -> Array:
    """Writes in the given order and in reverse against Cholesky solves of the normal equations."""
    layer = predictive_coding.Layer(start * mean, covariance)
    level = noise_of_writes(noise)
    forward, _ = _write_all(layer, activities[kept], targets[kept], level, write)
    backward, _ = _write_all(layer, activities[kept][::-1], targets[kept][::-1], level, write)
    batch = linear_regression.posterior(linear_regression.MatrixNormal(mean, covariance), activities, targets, noise)
    errors = [
        jnp.maximum(
            relative_error(written.mean, batch.mean), relative_error(written.covariance, batch.covariance, covariance)
        )
        for written in (forward, backward)
    ]
    return jnp.maximum(*errors)


@register(
    id="D5.erase",
    source=_YOO,
    title="erasing a pair leaves the posterior of the others",
    statement=(
        "the write with -s^2 in place of s^2, of any pair written before, gives the posterior of all other pairs"
    ),
    latex=(
        r"g = \frac{\Sigma\varphi}{\varphi^\top\Sigma\varphi - \sigma^2},\quad M' = M + (x - M\varphi)\,g^\top,\quad "
        r"\Sigma' = \Sigma - g\,(\Sigma\varphi)^\top:\quad \Sigma'^{-1} = \Sigma^{-1} - \varphi\varphi^\top/\sigma^2"
    ),
    printed_statement="the abstract prints no equation",
    verdict="NEW",
    relation="equal",
    constant="none",
    inputs=_pairs,
    cases=(_WRITES[0], _WRITES[1], _WRITES[4]),
    tolerance=1e-12,
    tolerance_extreme=1e-10,
    tolerance_single=1e-3,  # a difference of terms as large as the prior covariance over the noise
    exact={"erase": predictive_coding.erase, "level": lambda noise: noise, "which": 0},
    mutations={
        "written once more": {"erase": predictive_coding.write},
        "noise in place of its square": {"level": jnp.sqrt},
        "another pair is erased": {"which": 1},
    },
)
def erasing_leaves_the_posterior_of_the_others(
    activities: Array,
    targets: Array,
    mean: Array,
    covariance: Array,
    noise: Array,
    *,
    erase: Callable[..., predictive_coding.Layer],
    level: Piece,
    which: int,
) -> Array:
    """The first pair is erased after all were written, against Cholesky solves without it."""
    prior = linear_regression.MatrixNormal(mean, covariance)
    written, _ = _write_all(predictive_coding.Layer(mean, covariance), activities, targets, noise)
    left = erase(written, activities[which], targets[which], level(noise))
    others = linear_regression.posterior(prior, activities[1:], targets[1:], noise)
    return jnp.maximum(
        relative_error(left.mean, others.mean), relative_error(left.covariance, others.covariance, covariance)
    )


@register(
    id="D5.evidence",
    source=_YOO,
    title="the log evidence is the sum of one-step predictions",
    statement="log p(X | Phi) = sum_n log N(x_n; M phi_n, (s^2 + phi_n'S phi_n) I), M and S before write n",
    latex=(
        r"\log p(X\mid\Phi) = \sum_n \log N\bigl(x_n;\, M_{n-1}\varphi_n,\ "
        r"(\sigma^2 + \varphi_n^\top\Sigma_{n-1}\varphi_n)\,I\bigr)"
    ),
    printed_statement="the abstract prints no equation",
    verdict="NEW",
    relation="equal",
    constant="none",
    inputs=_pairs,
    cases=_WRITES,
    tolerance=1e-12,
    tolerance_extreme=1e-10,
    exact={"write": predictive_coding.write, "extra": lambda _x: 0.0},
    mutations={
        "each pair predicted from the prior": {"write": lambda layer, *_: layer},
        "covariance not updated": {"write": _outer_write},
        "2 pi left out": {"extra": lambda x: 0.5 * x.size * jnp.log(2 * jnp.pi)},
    },
)
def evidence_is_the_sum_of_predictions(
    activities: Array,
    targets: Array,
    mean: Array,
    covariance: Array,
    noise: Array,
    *,
    write: Callable[..., predictive_coding.Layer],
    extra: Callable[[Array], Any],
) -> Array:
    """Surprises along the writes against NumPyro's joint normal of all targets; the first against the predictive."""
    layer = predictive_coding.Layer(mean, covariance)
    prior = linear_regression.MatrixNormal(mean, covariance)
    _, surprises = _write_all(layer, activities, targets, noise, write)
    joint = linear_regression.log_evidence(prior, activities, targets, noise)
    first = linear_regression.predictive(prior, activities[0], noise).log_prob(targets[0])
    return jnp.maximum(
        relative_error(-jnp.sum(surprises) + extra(targets), joint, surprises),
        relative_error(-surprises[0], first, 1.0),
    )


@register(
    id="D5.forget",
    source=_YOO,
    title="forgetting keeps the prior, and draws every layer to it",
    statement=(
        "W' = M0 + sqrt(1-b)(W - M0) + sqrt(b) N(0, S0): the prior is invariant; n steps leave (1-b)^(n/2) of M - M0"
    ),
    latex=(
        r"W' = M_0 + \sqrt{1-b}\,(W-M_0) + \sqrt b\,N(0,\Sigma_0):\quad "
        r"(M_0,\Sigma_0)\mapsto(M_0,\Sigma_0),\quad M^{(n)}-M_0 = (1-b)^{n/2}(M-M_0)"
    ),
    printed_statement="the abstract prints no equation",
    verdict="NEW",
    relation="equal",
    constant="sqrt(1-b), sqrt(b)",
    inputs=_pairs,
    cases=(_WRITES[0], _WRITES[1]),
    tolerance=1e-12,
    exact={"shrink": lambda b: (1 - b) ** 0.5, "added": lambda b: b, "centre": 1.0},
    mutations={
        "b in place of its root": {"shrink": lambda b: 1 - b},
        "noise of variance b^2": {"added": lambda b: b**2},
        "prior mean taken for zero": {"centre": 0.0},
    },
)
def forgetting_keeps_the_prior(
    activities: Array,
    targets: Array,
    mean: Array,
    covariance: Array,
    noise: Array,
    *,
    shrink: Callable[[float], float],
    added: Callable[[float], float],
    centre: float,
) -> Array:
    """NumPyro's affine transform of matrix normals (moments) against the physics' map, three times in a row."""
    b = 0.3
    prior = predictive_coding.Layer(mean, covariance)
    written, _ = _write_all(prior, activities, targets, noise)
    errors = []
    for layer in (prior, written):
        forgot = layer
        law = dist.MultivariateNormal(layer.mean, covariance_matrix=layer.covariance)
        for _ in range(3):
            forgot = predictive_coding.forget(forgot, prior, b)
            moved = centre * mean + shrink(b) * (law.mean - centre * mean)
            law = dist.MultivariateNormal(
                moved, covariance_matrix=shrink(b) ** 2 * law.covariance_matrix + added(b) * covariance
            )
        errors += [relative_error(forgot.mean, law.mean), relative_error(forgot.covariance, law.covariance_matrix[0])]
    unchanged = predictive_coding.forget(prior, prior, b)
    left = (forgot.mean - mean) - (1 - b) ** 1.5 * (written.mean - mean)
    errors += [
        relative_error(unchanged.mean, prior.mean),
        relative_error(unchanged.covariance, prior.covariance),
        jnp.max(jnp.abs(left)) / jnp.max(jnp.abs(mean)),
    ]
    return jnp.max(jnp.stack(errors))
