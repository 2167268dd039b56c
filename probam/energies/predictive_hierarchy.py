r"""Predictive coding as a memory of what is seen: an image is recalled as the prediction of its inferred hidden layers.

.. math:: E(x_0) = \min_{x_1, \dots, x_L} F(x_0, x_1, \dots, x_L), \qquad x_0 \leftarrow W_0 f(x_1) + b_0

Salvatori et al. (2021), arXiv:2109.08063. :mod:`probam.energies.predictive_layers` has F, inference and learning. F is
minus the log density of a hierarchy of normal layers, up to a constant; where f is linear, E is that of \(x_0\) alone,
a normal law with the covariance \(\sigma^2 I + W_0 (I + W_1 (\cdots) W_1^\top) W_0^\top\), and completion is its mean
given the known pixels (for one layer, Tang et al. 2023).
"""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float

from probam.energies.arguments import Scalar, check_counts, positive, random_key
from probam.energies.memory import REAL, Card, Memory, checked_patterns
from probam.energies.predictive_layers import Activation, Hidden, Layers, energy, inferred, prediction
from probam.energies.predictive_learning import learned
from probam.errors import InputError
from probam.pytrees import pytree

__all__ = ["PredictiveCoding"]


@pytree
@dataclass(frozen=True, eq=False)
class PredictiveCoding(Memory):
    r"""A hierarchy of layers that has learned to predict its patterns, and fills in what is missing of one.

    Use it where patterns share parts: it recalls from few known entries, and also completes what it has not seen. One
    update is a whole recall: hidden layers are inferred, and their prediction is read.

    .. math:: F = \frac{|x_0 - W_0 f(x_1) - b_0|^2}{2 \sigma^2} + \frac12 \sum_{l=1}^{L} |x_l - W_l f(x_{l+1}) - b_l|^2,
        \qquad E(x_0) = \min_{x_1, \dots, x_L} F

    >>> from probam.energies.predictive_layers import Layers
    >>> layers = Layers((jnp.array([[1.0], [2.0]]),), (jnp.zeros(2), jnp.zeros(1)))
    >>> memory = PredictiveCoding(layers, noise=0.5, activation="linear")
    >>> seen, known = jnp.array([1.0, 0.0]), jnp.array([True, False])
    >>> round(memory.completed(seen, known)[1].item(), 3)  # covariance 2 over variance 1.25: the regression line
    1.6
    """

    layers: Layers
    noise: Scalar
    activation: Activation = field(default="tanh", metadata={"static": True})
    num_steps: int = field(default=200, metadata={"static": True})

    card = Card(
        "predictive_coding",
        REAL,
        "min over x_1 to x_L of |x_0 - W_0 f(x_1) - b_0|^2 / (2 sigma^2) + sum_l |x_l - W_l f(x_(l+1)) - b_l|^2 / 2",
        "prediction of the hidden layers, inferred by steps downhill",
        "not known; grows with the widths of the hidden layers",
        "Salvatori et al. (2021), arXiv:2109.08063",
        "predictive_coding",
    )
    settles = False
    falls = False  # not for sure: inference ends after num_steps
    separable = True  # a coordinate's prediction minimises F in it, which lies above E and touches it

    def __post_init__(self) -> None:
        _check_activation(self.activation)
        if all(hasattr(bias, "shape") for bias in self.layers.biases):
            self.layers.check()

    @property
    def shape(self) -> tuple[int, ...]:
        """Entries of a pattern."""
        return tuple(jnp.shape(self.layers.biases[0]))

    @classmethod
    def store(
        cls,
        patterns: Float[ArrayLike, "K D"],
        *,
        width: int = 32,
        depth: int = 1,
        noise: float = 0.1,
        activation: Activation = "tanh",
        num_epochs: int = 500,
        seed: int = 0,
    ) -> "PredictiveCoding":
        """Layers that were trained on the patterns.

        Args:
            patterns: one in each row.
            width, depth: of the hidden layers, and how many there are.
            noise: standard deviation of a seen entry around its prediction, in units of the patterns' spread.
            activation: "tanh" or "linear".
            num_epochs: updates of the weights, each with all patterns.
            seed: of the first weights.
        """
        rows = checked_patterns(patterns, REAL)
        _check_activation(activation)
        check_counts(width=width, depth=depth, num_epochs=num_epochs)
        spread = jnp.std(rows)
        unit = jnp.where(spread > 0, spread, 1)
        made = learned(
            random_key(seed),
            rows / unit,
            (width,) * depth,
            positive("noise", noise, rows.dtype),
            activation,
            num_epochs,
        )
        first = ((unit * made.weights[0], *made.weights[1:]), (unit * made.biases[0], *made.biases[1:]))
        return cls(Layers(*first), noise * unit, activation)

    def inferred(
        self, states: Float[ArrayLike, "*batch D"], known: Bool[ArrayLike, "*#batch D"] | None = None
    ) -> Hidden:
        """Hidden layers after inference, with all entries clamped, or those that are known."""
        seen = jnp.asarray(states)
        seen = seen.astype(jnp.result_type(seen, float))
        mask = None if known is None else jnp.asarray(known, bool)
        noise = positive("noise", self.noise, seen.dtype)
        return inferred(self.layers, seen, self.activation, noise, self.num_steps, mask)

    def completed(
        self, states: Float[ArrayLike, "*batch D"], known: Bool[ArrayLike, "*#batch D"]
    ) -> Float[Array, "*batch D"]:
        """The states with the entries that are not known filled in; what stands there does not matter."""
        return jnp.where(jnp.asarray(known), states, self._read(self.inferred(states, known)))

    def energy(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch"]:
        """F at the inferred layers, in nats; its slope is that with the layers held, as at the minimum."""
        hidden = jax.lax.stop_gradient(self.inferred(states))
        seen = jnp.asarray(states, hidden[0].dtype)
        return energy(self.layers, seen, hidden, self.activation, positive("noise", self.noise, seen.dtype))

    def update(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch D"]:
        """The prediction of the inferred layers."""
        return self._read(self.inferred(states))

    def _read(self, hidden: Hidden) -> Float[Array, "*batch D"]:
        return prediction(self.layers, 0, hidden[0], self.activation)


def _check_activation(activation: str) -> None:
    if activation not in ("tanh", "linear"):
        raise InputError(f"activation: expected tanh or linear; got {activation!r}")
