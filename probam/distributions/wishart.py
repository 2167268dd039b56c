r"""A Wishart law of precisions whose unconstrained coordinates know neither units nor an order of the features.

NumPyro's own coordinates of a Cholesky factor L are the logs of its diagonal and the entries below it. There the most
probable :math:`L L^\top` depends on the order of the features: the Jacobian gives each row of L another exponent. Here
each row is first divided by its diagonal entry,

.. math:: L = \mathrm{diag}(e^{t}) \, U, \qquad U_{ii} = 1,

so that :math:`\log p(t, U) = \nu \sum_i t_i - \tfrac12 \mathrm{tr}(R L L^\top)` up to a constant. Its maximum is at
:math:`L L^\top = \nu R^{-1}`, that of the density with respect to the invariant measure
:math:`d\Lambda / |\Lambda|^{(D+1)/2}`. A change of units shifts t alone. The law itself is the same.
"""

from typing import Any

import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Float
from numpyro.distributions import biject_to, constraints
from numpyro.distributions.constraints import _LowerCholesky
from numpyro.distributions.transforms import LowerCholeskyTransform, ParameterFreeTransform

__all__ = ["InvariantWishartCholesky", "ScaledRowsTransform", "mode_exponents", "scaled_rows_cholesky"]


class _ScaledRowsCholesky(_LowerCholesky):
    """Lower triangular matrices with a positive diagonal, mapped to real vectors by :class:`ScaledRowsTransform`."""


scaled_rows_cholesky = _ScaledRowsCholesky()  # type: ignore[no-untyped-call]
"""Constraint of a Cholesky factor whose coordinates are those of :class:`ScaledRowsTransform`."""


class ScaledRowsTransform(ParameterFreeTransform[Any]):
    """From the entries of U below the diagonal (row by row) and t, D (D + 1) / 2 real numbers, to diag(exp(t)) U.

    >>> factor = ScaledRowsTransform()(jnp.array([0.5, 0.0, jnp.log(4.0)]))
    >>> factor.round(3).tolist()
    [[1.0, 0.0], [2.0, 4.0]]
    """

    domain = constraints.real_vector
    codomain = scaled_rows_cholesky
    _entries = LowerCholeskyTransform()
    """From the same numbers to the matrix of exp(t) on the diagonal and U below it."""

    def __call__(self, x: Float[Array, "*B P"]) -> Float[Array, "*B D D"]:
        """The factor."""
        entries = self._entries(x)
        scale = jnp.diagonal(entries, axis1=-2, axis2=-1)
        return jnp.asarray(scale[..., None] * (jnp.tril(entries, -1) + jnp.eye(scale.shape[-1], dtype=x.dtype)))

    def _inverse(self, y: Float[Array, "*B D D"]) -> Float[Array, "*B P"]:
        scale = jnp.diagonal(y, axis1=-2, axis2=-1)
        entries = jnp.tril(y, -1) / scale[..., None] + scale[..., None] * jnp.eye(scale.shape[-1], dtype=y.dtype)
        return jnp.asarray(self._entries._inverse(entries))

    def log_abs_det_jacobian(
        self,
        x: Float[Array, "*B P"],
        y: Float[Array, "*B D D"],
        intermediates: Any = None,  # noqa: ARG002
    ) -> Float[Array, "*B"]:
        """Row i, counted from 1, has i entries that its scale multiplies."""
        num_features = y.shape[-1]
        return jnp.sum(jnp.arange(1, num_features + 1) * x[..., -num_features:], axis=-1)

    def forward_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """(..., P) to (..., D, D)."""
        return self._entries.forward_shape(shape)

    def inverse_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """(..., D, D) to (..., P)."""
        return self._entries.inverse_shape(shape)


biject_to.register(scaled_rows_cholesky, lambda _: ScaledRowsTransform())


class InvariantWishartCholesky(dist.WishartCholesky):
    """``numpyro.distributions.WishartCholesky`` with the coordinates of :class:`ScaledRowsTransform`."""

    support = scaled_rows_cholesky


def mode_exponents(law: dist.WishartCholesky, num_features: int) -> Float[Array, "*K D"]:
    r"""Exponents e of the density of a factor L in its unconstrained coordinates.

    It is proportional to :math:`\prod_i L_{ii}^{e_i} e^{-\mathrm{tr}(R L L^\top)/2}`.
    """
    steps = 0 if law.support is scaled_rows_cholesky else jnp.arange(num_features)
    return jnp.asarray(law.concentration)[..., None] - steps * jnp.ones(num_features, law.concentration.dtype)
