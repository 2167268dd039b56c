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
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float
from numpyro.distributions import biject_to, constraints
from numpyro.distributions.constraints import _LowerCholesky
from numpyro.distributions.transforms import LowerCholeskyTransform, ParameterFreeTransform

from probam.numerics.entries import columns, diagonal, entries, lower_places

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
    """Has vectors and matrices of the same shapes."""

    def __call__(self, x: Float[Array, "*B P"]) -> Float[Array, "*B D D"]:
        """The factor."""
        num_features = self.forward_shape(x.shape[-1:])[-1]
        one, zero = (jnp.full((*x.shape[:-1], 1), value, x.dtype) for value in (1, 0))
        below, scale = x[..., :-num_features], jnp.exp(x[..., -num_features:])
        unit = columns(jnp.concatenate([below, one, zero], axis=-1), lower_places(num_features))
        return scale[..., None] * unit

    def _inverse(self, y: Float[Array, "*B D D"]) -> Float[Array, "*B P"]:
        scale = diagonal(y)
        below = entries(y / scale[..., None], *np.tril_indices(y.shape[-1], -1))
        return jnp.concatenate([below, jnp.log(scale)], axis=-1)

    def log_abs_det_jacobian(
        self,
        x: Float[Array, "*B P"],
        y: Float[Array, "*B D D"],
        intermediates: Any = None,  # noqa: ARG002
    ) -> Float[Array, "*B"]:
        """Row i, counted from 1, has i entries that its scale multiplies."""
        num_features = y.shape[-1]
        return jnp.sum(np.arange(1, num_features + 1) * x[..., -num_features:], axis=-1)

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
