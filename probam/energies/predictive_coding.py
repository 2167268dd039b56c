r"""Predictive-coding memories: one-shot writes into a linear layer, and recall of a latent state through a decoder.

**Writing** (BayesPCN; Yoo and Wood 2022). A layer predicts \(x = W \varphi + \text{noise}\) with uncertain weights.
Writing a pair \((\varphi, x)\) is a rank-one update of recursive least squares:

.. math::
    g = \frac{\Sigma \varphi}{\sigma^2 + \varphi^\top \Sigma \varphi}, \qquad
    M \leftarrow M + (x - M \varphi)\, g^\top, \qquad \Sigma \leftarrow \Sigma - g\, (\Sigma \varphi)^\top

The rows of W share the covariance \(\Sigma\). Erasing a pair is the same with \(-\sigma^2\) for \(\sigma^2\), and
leaves no trace of it. Forgetting moves the weights back to their prior. Several such layers, one above the other, are
in :mod:`probam.energies.bayesian_layers`.

**Recall** (Annabi et al. 2022, *On the relationship between variational inference and auto-associative memory*). A
latent state z is attracted by memories \(\mu_k\) and explains the observation through a decoder g:

.. math:: F(z) = \frac{|x - g(z)|^2}{2 \sigma^2} + \beta E_{\rm CLAM}(z), \qquad \beta = \frac{1}{2 t^2}

where t is the width of a memory. For a linear decoder :func:`recall_update` minimises F without a step size.

Standard deviations that are not above 0 and bad shapes raise :class:`probam.errors.InputError`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from probam.energies import clam
from probam.energies.arguments import Scalar, Weights, points, positive
from probam.energies.memory import REAL, Card, Memory
from probam.energies.wells import dot
from probam.errors import InputError
from probam.pytrees import pytree

__all__ = ["Decoder", "Layer", "erase", "forget", "free_energy", "read", "recall_update", "surprise", "write"]


class Layer(NamedTuple):
    """Uncertain weights of a linear layer: mean (D, F), and covariance (F, F) of each of the D rows."""

    mean: Float[Array, "D F"]
    covariance: Float[Array, "F F"]


def read(layer: Layer, activity: Float[ArrayLike, "*batch F"]) -> Float[Array, "*batch D"]:
    r"""Prediction \(M \varphi\) of the layer."""
    activity = _activity(layer, activity)
    return dot(activity, layer.mean.T)


def write(layer: Layer, activity: Float[ArrayLike, " F"], target: Float[ArrayLike, " D"], noise: Scalar) -> Layer:
    """The layer after one pair is written.

    Args:
        layer: the layer before.
        activity, target: the pair.
        noise: standard deviation of the target around the prediction, above 0.
    """
    return _regressed(layer, _activity(layer, activity), _target(layer, target), _variance("noise", noise, layer))


def erase(layer: Layer, activity: Float[ArrayLike, " F"], target: Float[ArrayLike, " D"], noise: Scalar) -> Layer:
    """The layer without a pair that was written at some time; arguments are those of :func:`write`.

    It undoes the write to rounding whatever was written since, as long as the layer has not forgotten.
    """
    return _regressed(layer, _activity(layer, activity), _target(layer, target), -_variance("noise", noise, layer))


def _regressed(
    layer: Layer, activity: Float[Array, " F"], target: Float[Array, " D"], variance: Float[Array, ""]
) -> Layer:
    """A step of recursive least squares; a negative variance takes the pair away."""
    spread = dot(layer.covariance, activity[:, None])[:, 0]
    gain = spread / (variance + jnp.sum(activity * spread))
    mean = layer.mean + (target - read(layer, activity))[:, None] * gain
    return Layer(mean, layer.covariance - gain[:, None] * spread)


def surprise(
    layer: Layer, activity: Float[ArrayLike, " F"], target: Float[ArrayLike, " D"], noise: Scalar
) -> Float[Array, ""]:
    r"""Negative log predictive density of a pair before it is written, in nats; arguments are those of :func:`write`.

    .. math:: \frac{|x - M\varphi|^2}{2 v} + \frac D2 \log(2 \pi v), \qquad v = \sigma^2 + \varphi^\top \Sigma \varphi
    """
    activity, target = _activity(layer, activity), _target(layer, target)
    spread = _variance("noise", noise, layer) + jnp.sum(activity * dot(layer.covariance, activity[:, None])[:, 0])
    square = jnp.sum((target - read(layer, activity)) ** 2)
    return 0.5 * square / spread + 0.5 * target.shape[0] * jnp.log(2 * jnp.pi * spread)


def forget(layer: Layer, prior: Layer, rate: Scalar) -> Layer:
    r"""The layer after \(W \leftarrow M_0 + \sqrt{1-b}\,(W - M_0) + \sqrt{b}\, N(0, \Sigma_0)\), b in [0, 1].

    Args:
        layer: the layer before.
        prior: the layer before anything was written.
        rate: b in [0, 1]; 0 changes nothing, 1 returns the prior.
    """
    b = positive("rate", rate, layer.mean.dtype, zero=True)
    mean = prior.mean + jnp.sqrt(1 - b) * (layer.mean - prior.mean)
    return Layer(mean, (1 - b) * layer.covariance + b * prior.covariance)


def free_energy(
    latent: Float[ArrayLike, "*batch Z"],
    observation: Float[ArrayLike, "*#batch D"],
    decoder: Callable[[Float[Array, "*batch Z"]], Float[Array, "*batch D"]],
    noise: Scalar,
    memories: Float[ArrayLike, "K Z"],
    width: Scalar,
    weights: Weights | None = None,
) -> Float[Array, "*batch"]:
    """Energy F of a latent state, in nats: squared prediction error over twice the variance, plus the memories' energy.

    Args:
        latent: latent states z.
        observation: the observations x.
        decoder: g, from latent states to observations.
        noise: standard deviation of an observation around the decoded state, above 0.
        memories: one memory in each row, in the latent space.
        width: t, the standard deviation of a memory, above 0.
        weights: as for :func:`probam.energies.clam.energy`.
    """
    latent, memories = points(latent, memories)
    error = jnp.asarray(observation, latent.dtype) - decoder(latent)
    variance = positive("noise", noise, latent.dtype) ** 2
    beta = _stiffness(width, latent)
    return 0.5 * jnp.sum(error**2, axis=-1) / variance + beta * clam.energy(latent, memories, beta, weights)


def recall_update(
    latent: Float[ArrayLike, "*batch Z"],
    observation: Float[ArrayLike, "*#batch D"],
    matrix: Float[ArrayLike, "D Z"],
    bias: Float[ArrayLike, " D"],
    noise: Scalar,
    memories: Float[ArrayLike, "K Z"],
    width: Scalar,
    weights: Weights | None = None,
) -> Float[Array, "*batch Z"]:
    r"""Next latent state for the decoder \(g(z) = A z + b\): a compromise between observation and recalled mean.

    .. math:: z' = \Bigl(\frac{A^\top A}{\sigma^2} + \frac{I}{t^2}\Bigr)^{-1}
        \Bigl(\frac{A^\top (x - b)}{\sigma^2} + \frac{m(z)}{t^2}\Bigr)

    It minimises a quadratic function that touches F at z and lies above it elsewhere, so F never rises. ``matrix`` is A
    and ``bias`` is b; other arguments are those of :func:`free_energy`.
    """
    latent, memories = points(latent, memories)
    matrix = jnp.asarray(matrix, latent.dtype)
    residual = jnp.asarray(observation, latent.dtype) - jnp.asarray(bias, latent.dtype)
    ratio = (positive("width", width, latent.dtype) / positive("noise", noise, latent.dtype)) ** 2
    mean = clam.update(latent, memories, _stiffness(width, latent), weights)
    system = ratio * dot(matrix.T, matrix) + jnp.eye(matrix.shape[1], dtype=latent.dtype)
    pull = ratio * dot(residual, matrix) + mean
    solved: Array = jnp.linalg.solve(system, pull[..., None])
    return solved[..., 0]


def _stiffness(width: Scalar, latent: Float[Array, "*batch Z"]) -> Float[Array, ""]:
    """The beta of memories of this standard deviation."""
    return 0.5 / positive("width", width, latent.dtype) ** 2


def _variance(name: str, deviation: Scalar, layer: Layer) -> Float[Array, ""]:
    return positive(name, deviation, jnp.asarray(layer.mean).dtype) ** 2


def _activity(layer: Layer, activity: Float[ArrayLike, "*batch F"]) -> Float[Array, "*batch F"]:
    array = jnp.asarray(activity, jnp.asarray(layer.mean).dtype)
    if array.ndim == 0 or array.shape[-1] != layer.mean.shape[1]:
        raise InputError(f"activity: expected the layer's {layer.mean.shape[1]} features last; got shape {array.shape}")
    return array


def _target(layer: Layer, target: Float[ArrayLike, " D"]) -> Float[Array, " D"]:
    array = jnp.asarray(target, jnp.asarray(layer.mean).dtype)
    if array.shape != layer.mean.shape[:1]:
        raise InputError(f"target: expected the layer's {layer.mean.shape[0]} outputs; got shape {array.shape}")
    return array


@pytree
@dataclass(frozen=True, eq=False)
class Decoder(Memory):
    r"""Recall of a latent state that a linear decoder turns into an observation.

    For patterns that are seen through a known, noisy linear map: recall weighs what is seen against what is stored.
    States are latent; one memory object belongs to one observation.

    .. math:: F(z) = \frac{|x - A z - b|^2}{2 \sigma^2} + \beta E_{\rm CLAM}(z), \qquad \beta = \frac{1}{2 t^2}

    >>> from probam.dynamics.memories import recall
    >>> seen = {"observation": jnp.array([1.2]), "matrix": jnp.array([[1.0, 1.0]]), "bias": jnp.zeros(1)}
    >>> memory = Decoder(jnp.array([[1.0, 0.0], [0.0, 3.0]]), **seen, noise=0.5, width=0.2)
    >>> recalled = recall(memory, jnp.array([0.5, 0.5]))
    >>> round(recalled.states[0].item(), 3)  # the first memory, moved a little towards what is seen
    1.024
    """

    memories: Float[ArrayLike, "K Z"]
    observation: Float[ArrayLike, " D"]
    matrix: Float[ArrayLike, "D Z"]
    bias: Float[ArrayLike, " D"]
    noise: Scalar
    width: Scalar
    weights: Weights | None = None

    card = Card(
        "decoder",
        REAL,
        "|x - A z - b|^2 / (2 sigma^2) + beta E_CLAM(z)",
        "compromise between the observation and the mean of the memories",
        "every pattern, as long as the width is small against the distances",
        "Annabi et al. (2022), arXiv:2210.08013",
    )
    no_store = "it needs a decoder and an observation: build Decoder(memories, observation, matrix, ...) in Python"

    def energy(self, states: Float[ArrayLike, "*batch Z"]) -> Float[Array, "*batch"]:
        """:func:`free_energy`, in nats."""
        observation = jnp.asarray(self.observation)
        rows = (self.noise, self.memories, self.width, self.weights)
        return free_energy(states, observation, self._decode, *rows)

    def update(self, states: Float[ArrayLike, "*batch Z"]) -> Float[Array, "*batch Z"]:
        """:func:`recall_update`."""
        seen = (self.observation, self.matrix, self.bias, self.noise)
        return recall_update(states, *seen, self.memories, self.width, self.weights)

    def _decode(self, latent: Float[Array, "*batch Z"]) -> Float[Array, "*batch D"]:
        return dot(latent, jnp.asarray(self.matrix, latent.dtype).T) + jnp.asarray(self.bias, latent.dtype)
