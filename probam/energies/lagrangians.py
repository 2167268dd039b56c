r"""Lagrangians: scalar functions of a layer that determine its activation and its term of the energy.

.. math:: f(x) = \nabla L(x), \qquad \ell(x) = x \cdot f(x) - L(x), \qquad L^*(f) = \sup_x\, [x \cdot f - L(x)]

Krotov and Hopfield (2021), arXiv:2008.06996; Yang (2020), slides, Part III. A convex Lagrangian makes the layer's
activation monotone; the term \(\ell(x)\) of a network's energy is then the convex conjugate \(L^*\) at \(f(x)\).

Each Lagrangian is a small frozen object and a JAX pytree. Its numbers (an inverse temperature, a gain) may be traced,
mapped and differentiated; a power is static. Numbers out of range raise :class:`probam.errors.InputError` where they
are used. All functions act on the last axis of x, shape (..., N), and return the dtype of x. The activation is the
gradient by automatic differentiation.

>>> [round(f, 3) for f in LogSumExp(2.0).activation(jnp.array([0.0, 1.0])).tolist()]  # softmax units
[0.119, 0.881]
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import entr, logsumexp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from probam.energies.arguments import Scalar, positive
from probam.errors import InputError
from probam.pytrees import pytree

__all__ = [
    "AbsoluteValue",
    "Lagrangian",
    "LayerNorm",
    "LogCosh",
    "LogSumExp",
    "Power",
    "Quadratic",
    "RectifiedPower",
    "Softplus",
]

_SLACK = 16
"""Tolerance for rounding at the edge of a conjugate's domain, in eps times the number of units."""


class Lagrangian(ABC):
    """A differentiable function L of a layer's currents; the module's docstring has the equations."""

    @abstractmethod
    def value(self, x: Float[Array, "*batch N"]) -> Float[Array, "*batch"]:
        """L(x), of a floating array."""

    @abstractmethod
    def conjugate(self, activation: Float[ArrayLike, "*batch N"]) -> Float[Array, "*batch"]:
        r"""Convex conjugate \(L^*(f) = \sup_x [x \cdot f - L(x)]\) in closed form; infinite outside its domain."""

    @property
    def is_convex(self) -> bool:
        """Whether the Hessian is positive semi-definite everywhere, so that the energy of a network never rises."""
        return True

    def __call__(self, x: Float[ArrayLike, "*batch N"]) -> Float[Array, "*batch"]:
        """L(x)."""
        return self.value(_floats(x))

    def activation(self, x: Float[ArrayLike, "*batch N"]) -> Float[Array, "*batch N"]:
        r"""Output of the layer, \(f(x) = \nabla L(x)\), by automatic differentiation."""
        gradient: Array = jax.grad(lambda y: jnp.sum(self.value(y)))(_floats(x))
        return gradient

    def curvature(
        self, x: Float[ArrayLike, "*batch N"], direction: Float[ArrayLike, "*batch N"]
    ) -> Float[Array, "*batch N"]:
        r"""Product of the Hessian \(\nabla^2 L(x)\), the Jacobian of the activation, with a direction."""
        x = _floats(x)
        tangent = jnp.broadcast_to(jnp.asarray(direction, x.dtype), x.shape)
        product: Array = jax.jvp(self.activation, (x,), (tangent,))[1]
        return product

    def legendre(self, x: Float[ArrayLike, "*batch N"]) -> Float[Array, "*batch"]:
        r"""The layer's term of the energy, \(x \cdot f(x) - L(x)\); for a convex L it equals \(L^*(f(x))\)."""
        x = _floats(x)
        return jnp.sum(x * self.activation(x), axis=-1) - self.value(x)


def _floats(x: Float[ArrayLike, "*batch N"]) -> Float[Array, "*batch N"]:
    x = jnp.asarray(x)
    if x.ndim == 0:
        raise InputError("x: expected shape (..., N), one entry per unit; got a scalar")
    return x.astype(jnp.result_type(x, float))


def _require_whole(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InputError(f"{name}: expected a whole number of at least 1; got {value!r}")


def _inside(value: Float[Array, "*batch"], distance: Float[Array, "*batch"], num_units: int) -> Float[Array, "*batch"]:
    """``value`` where the distance to the domain is within rounding, infinity elsewhere."""
    return jnp.where(distance <= _SLACK * num_units * float(np.finfo(value.dtype).eps), value, jnp.inf)


@pytree
@dataclass(frozen=True)
class Quadratic(Lagrangian):
    r"""Linear units: \(L = \tfrac12 |x|^2\), \(f = x\); log partition function of unit Gaussians."""

    def value(self, x: Float[Array, "*batch N"]) -> Float[Array, "*batch"]:
        r""":math:`\tfrac12 |x|^2`."""
        return jnp.sum(x**2, axis=-1) / 2

    def conjugate(self, activation: Float[ArrayLike, "*batch N"]) -> Float[Array, "*batch"]:
        r""":math:`\tfrac12 |f|^2`."""
        return self.value(_floats(activation))


@pytree
@dataclass(frozen=True)
class LogSumExp(Lagrangian):
    r"""Softmax units: \(L = \beta^{-1} \log \sum_i e^{\beta x_i}\), \(f = {\rm softmax}(\beta x)\).

    A larger inverse temperature beta gives the largest unit a larger share. The Hessian
    \(\beta ({\rm diag} f - f f^\top)\) has the constant vector in its null space.
    """

    inverse_temperature: Scalar = 1.0

    def value(self, x: Float[Array, "*batch N"]) -> Float[Array, "*batch"]:
        r""":math:`\beta^{-1} \log \sum_i e^{\beta x_i}`."""
        beta = positive("inverse_temperature", self.inverse_temperature, x.dtype)
        return logsumexp(beta * x, axis=-1) / beta

    def legendre(self, x: Float[ArrayLike, "*batch N"]) -> Float[Array, "*batch"]:
        r"""Minus the entropy over beta, \(\beta^{-1} \sum_i f_i \log f_i\); common currents cancel exactly."""
        x = _floats(x)
        beta = positive("inverse_temperature", self.inverse_temperature, x.dtype)
        log_f = jax.nn.log_softmax(beta * x, axis=-1)
        return jnp.sum(jnp.exp(log_f) * log_f, axis=-1) / beta

    def conjugate(self, activation: Float[ArrayLike, "*batch N"]) -> Float[Array, "*batch"]:
        r""":math:`\beta^{-1} \sum_i f_i \log f_i` on the simplex."""
        f = _floats(activation)
        negentropy = -jnp.sum(entr(f), axis=-1) / positive("inverse_temperature", self.inverse_temperature, f.dtype)
        return _inside(negentropy, jnp.abs(jnp.sum(f, axis=-1) - 1), f.shape[-1])


@pytree
@dataclass(frozen=True)
class Power(Lagrangian):
    r"""Plain powers: \(L = \sum_i x_i^n\), \(f_i = n x_i^{n-1}\); convex for n = 1 and even n only."""

    n: int = field(metadata={"static": True})

    def __post_init__(self) -> None:
        _require_whole("n", self.n)

    @property
    def is_convex(self) -> bool:
        """For n = 1 and even n."""
        return self.n == 1 or self.n % 2 == 0

    def value(self, x: Float[Array, "*batch N"]) -> Float[Array, "*batch"]:
        r""":math:`\sum_i x_i^n`."""
        return jnp.sum(x**self.n, axis=-1)

    def conjugate(self, activation: Float[ArrayLike, "*batch N"]) -> Float[Array, "*batch"]:
        r""":math:`(n-1) \sum_i |f_i / n|^{n/(n-1)}`; for n = 1 zero at f = 1.

        Raises:
            InputError: for odd n above 1, where the supremum is infinite everywhere.
        """
        f = _floats(activation)
        if not self.is_convex:
            raise InputError(
                f"n: expected 1 or an even power; x^{self.n} is not convex and has no finite conjugate; "
                f"use RectifiedPower({self.n})"
            )
        if self.n == 1:
            return _inside(jnp.zeros(f.shape[:-1], f.dtype), jnp.max(jnp.abs(f - 1), axis=-1), f.shape[-1])
        return _power_conjugate(f, self.n)


@pytree
@dataclass(frozen=True)
class RectifiedPower(Lagrangian):
    r"""Rectified powers: \(L = \sum_i \max(x_i, 0)^n\), the \(F_n\) of dense associative memory (ReLU^n)."""

    n: int = field(metadata={"static": True})

    def __post_init__(self) -> None:
        _require_whole("n", self.n)

    def value(self, x: Float[Array, "*batch N"]) -> Float[Array, "*batch"]:
        r""":math:`\sum_i \max(x_i, 0)^n`; the slope at 0 is 0."""
        return jnp.sum(jnp.where(x > 0, x, 0) ** self.n, axis=-1)

    def conjugate(self, activation: Float[ArrayLike, "*batch N"]) -> Float[Array, "*batch"]:
        r""":math:`(n-1) \sum_i (f_i / n)^{n/(n-1)}` for f >= 0; for n = 1 zero on [0, 1]."""
        f = _floats(activation)
        if self.n == 1:
            beyond = jnp.max(jnp.abs(f - 0.5), axis=-1) - 0.5
            return _inside(jnp.zeros(f.shape[:-1], f.dtype), beyond, f.shape[-1])
        return jnp.where(jnp.min(f, axis=-1) >= 0, _power_conjugate(f, self.n), jnp.inf)


def _power_conjugate(f: Float[Array, "*batch N"], n: int) -> Float[Array, "*batch"]:
    return (n - 1) * jnp.sum(jnp.abs(f / n) ** (n / (n - 1)), axis=-1)


@pytree
@dataclass(frozen=True)
class LogCosh(Lagrangian):
    r"""Saturating units: \(L = \beta^{-1} \sum_i \log(2 \cosh \beta x_i)\), \(f = \tanh \beta x\).

    The factor 2 does not change the activation; it makes L the log partition function of spins.
    """

    inverse_temperature: Scalar = 1.0

    def value(self, x: Float[Array, "*batch N"]) -> Float[Array, "*batch"]:
        r""":math:`\beta^{-1} \sum_i \log(2 \cosh \beta x_i)`."""
        beta = positive("inverse_temperature", self.inverse_temperature, x.dtype)
        return jnp.sum(jnp.logaddexp(beta * x, -beta * x), axis=-1) / beta

    def conjugate(self, activation: Float[ArrayLike, "*batch N"]) -> Float[Array, "*batch"]:
        r"""Minus the entropy of spins of mean f, over beta; infinite outside [-1, 1]."""
        f = _floats(activation)
        entropy = entr((1 + f) / 2) + entr((1 - f) / 2)
        return -jnp.sum(entropy, axis=-1) / positive("inverse_temperature", self.inverse_temperature, f.dtype)


@pytree
@dataclass(frozen=True)
class Softplus(Lagrangian):
    r"""Logistic units: \(L = \beta^{-1} \sum_i \log(1 + e^{\beta x_i})\), \(f = (1 + e^{-\beta x})^{-1}\)."""

    inverse_temperature: Scalar = 1.0

    def value(self, x: Float[Array, "*batch N"]) -> Float[Array, "*batch"]:
        r""":math:`\beta^{-1} \sum_i \log(1 + e^{\beta x_i})`."""
        beta = positive("inverse_temperature", self.inverse_temperature, x.dtype)
        return jnp.sum(jnp.logaddexp(beta * x, 0), axis=-1) / beta

    def conjugate(self, activation: Float[ArrayLike, "*batch N"]) -> Float[Array, "*batch"]:
        r"""Minus the entropy of bits of mean f, over beta; infinite outside [0, 1]."""
        f = _floats(activation)
        beta = positive("inverse_temperature", self.inverse_temperature, f.dtype)
        return -jnp.sum(entr(f) + entr(1 - f), axis=-1) / beta


@pytree
@dataclass(frozen=True)
class AbsoluteValue(Lagrangian):
    r"""Signs: \(L = \sum_i |x_i|\), \(f = {\rm sign}(x)\) with sign(0) = 0; the Hessian is zero almost everywhere."""

    def value(self, x: Float[Array, "*batch N"]) -> Float[Array, "*batch"]:
        r""":math:`\sum_i |x_i|`."""
        return jnp.sum(jnp.abs(x), axis=-1)

    def conjugate(self, activation: Float[ArrayLike, "*batch N"]) -> Float[Array, "*batch"]:
        """Zero on the cube [-1, 1]^N."""
        f = _floats(activation)
        return _inside(jnp.zeros(f.shape[:-1], f.dtype), jnp.max(jnp.abs(f), axis=-1) - 1, f.shape[-1])


@pytree
@dataclass(frozen=True)
class LayerNorm(Lagrangian):
    r"""Layer normalisation: \(L = N \gamma \sqrt{{\rm var}(x) + \epsilon} + \delta \cdot x\).

    .. math:: f = \gamma \frac{x - \bar x}{\sqrt{{\rm var}(x) + \epsilon}} + \delta

    Hoover et al. (2023), arXiv:2302.07253, Eqs. 1 and 2 (Energy Transformer). The Hessian has the constant vector in
    its null space.

    Args:
        gain: gamma, one number above 0.
        shift: delta, one number or one for each unit.
        eps: above 0; keeps L differentiable at constant layers.
    """

    gain: Scalar = 1.0
    shift: float | Float[ArrayLike, " N"] = 0.0
    eps: Scalar = 1e-5

    def value(self, x: Float[Array, "*batch N"]) -> Float[Array, "*batch"]:
        r""":math:`N \gamma \sqrt{{\rm var}(x) + \epsilon} + \delta \cdot x`."""
        gain, shift, eps = self._numbers(x.dtype)
        spread = jnp.sqrt(jnp.var(x, axis=-1) + eps)
        return x.shape[-1] * gain * spread + jnp.sum(shift * x, axis=-1)

    def conjugate(self, activation: Float[ArrayLike, "*batch N"]) -> Float[Array, "*batch"]:
        r""":math:`-N \gamma \sqrt\epsilon \sqrt{1 - |f - \delta|^2 / (N \gamma^2)}` where f - delta sums to zero.

        Infinite elsewhere, and where f - delta is longer than :math:`\gamma \sqrt N`.
        """
        f = _floats(activation)
        gain, shift, eps = self._numbers(f.dtype)
        unit = (f - shift) / gain
        room = 1 - jnp.mean(unit**2, axis=-1)
        depth = f.shape[-1] * gain * jnp.sqrt(eps) * jnp.sqrt(jnp.where(room > 0, room, 0))
        scale = 1 + jnp.max(jnp.abs(f), axis=-1) / gain
        return _inside(-depth, jnp.maximum(jnp.abs(jnp.sum(unit, axis=-1)) / scale, -room), f.shape[-1])

    def _numbers(self, dtype: jnp.dtype) -> tuple[Array, Array, Array]:
        return positive("gain", self.gain, dtype), jnp.asarray(self.shift, dtype), positive("eps", self.eps, dtype)
