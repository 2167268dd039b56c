r"""Memories numbered in order: one labelling of a posterior that is invariant to the numbering.

Where memories are exchangeable a priori every posterior has K! copies, one for each numbering, and their average says
nothing of a single memory. Restricted to the region where a number of each memory increases with its own number
(or its weight decreases), and multiplied by K!, it is the same posterior of everything that does not depend on
numbering, with the same evidence. It is *not* another prior on sorted locations: the law of the unordered set of
memories is the model's own.

The region is covered by unconstrained coordinates t,

.. math:: c_1 = t_1, \quad c_k = c_{k-1} + e^{t_k}, \qquad \log w_k = \log w_{k-1} - e^{t_{k-1}},

for coordinate c of the location in the model's own unconstrained coordinates, or the weights.

Weights by stick-breaking are not exchangeable: they say which memory comes first, and no restriction leaves their
posterior as it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import lgamma
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from numpyro.distributions import Distribution

from probam.distributions.mixture import MemoryMixture
from probam.errors import InputError
from probam.family import Family, Model, Params, Prior, WeightPrior
from probam.inference.common.rows import numbers_memories
from probam.pytrees import pytree

__all__ = ["ORDERS", "OrderedModel", "described_order", "in_order", "unordered"]

ORDERS = ("none", "location", "weight")

_LEAST_GAP = 0.01
"""Memories that tie at a start are parted by this share of the mean gap (by so much where all tie)."""


@pytree
@dataclass(frozen=True)
class OrderedModel:
    """A model whose memories are numbered in order; a Model itself, with the same program."""

    model: Model
    order: str = field(metadata={"static": True})
    coordinate: int = field(metadata={"static": True})

    @property
    def family(self) -> Family:
        """That of the model."""
        return self.model.family

    @property
    def weights(self) -> WeightPrior:
        """Those of the model."""
        return self.model.weights

    @property
    def num_components(self) -> int:
        """K."""
        return self.model.num_components

    @property
    def prior(self) -> Prior:
        """That of the model."""
        return self.model.prior

    @property
    def missing(self) -> bool:
        """Whether entries of the data may be missing."""
        return self.model.missing

    @property
    def row_weight(self) -> jax.Array | None:
        """That of the model."""
        return self.model.row_weight

    def with_row_weight(self, weight: jax.Array | None) -> "OrderedModel":
        """The same model, in the same order, for rows that count so often."""
        return OrderedModel(self.model.with_row_weight(weight), self.order, self.coordinate)

    def __call__(self, x: Float[Array, "N D"] | None = None, num_data: int | None = None) -> object:
        """The model's program."""
        return self.model(x, num_data)

    def sites(self) -> tuple[Float[Array, " K"], Params]:
        """The model's program of the sites."""
        return self.model.sites()

    def parameters(self) -> tuple[Float[Array, " K"], Distribution]:
        """The model's program of the parameters."""
        return self.model.parameters()

    def mixture(self, params: Mapping[str, jax.Array]) -> MemoryMixture:
        """The model's mixture."""
        return self.model.mixture(params)

    def deterministics(self, params: Mapping[str, jax.Array]) -> Params:
        """Those of the model."""
        return self.model.deterministics(params)

    @property
    def site(self) -> str:
        """The site that is in order."""
        return "proportions" if self.order == "weight" else self.family.location

    @property
    def log_labellings(self) -> float:
        """log K!, nats."""
        return lgamma(self.num_components + 1)

    def transform(self, transform: Any) -> "OrderedMemories | OrderedWeights":
        """From unconstrained coordinates to ordered values of the site, given the transform of unordered ones."""
        return OrderedWeights() if self.order == "weight" else OrderedMemories(transform, self.coordinate)

    def arranged(self, transform: "OrderedMemories | OrderedWeights", params: Params) -> Params:
        """The same memories numbered in order, parted a little where they tie: for starts."""
        order, value = transform.arranged(params[self.site])
        moves = (set(self.prior) - self.family.shared) | {"proportions"}
        return {name: old[order] if name in moves else old for name, old in params.items()} | {self.site: value}


class OrderedMemories:
    """Values (K, ...) whose ``coordinate`` increases with the memory, in unconstrained coordinates."""

    def __init__(self, transform: Any, coordinate: int) -> None:
        self.transform, self.coordinate = transform, coordinate

    def _spread(self, free: jax.Array) -> jax.Array:
        """The unordered model's unconstrained values."""
        flat = free.reshape(len(free), -1)
        steps = flat[:, self.coordinate]
        column = jnp.cumsum(jnp.concatenate([steps[:1], jnp.exp(steps[1:])]))
        return flat.at[:, self.coordinate].set(column).reshape(free.shape)

    def __call__(self, free: jax.Array) -> jax.Array:
        """Ordered values."""
        return jnp.asarray(self.transform(self._spread(free)))

    def inv(self, value: jax.Array) -> jax.Array:
        """Inverse of the call; not a number where ``value`` is not in order."""
        spread = jnp.asarray(self.transform.inv(value))
        flat = spread.reshape(len(spread), -1)
        column = flat[:, self.coordinate]
        steps = jnp.concatenate([column[:1], jnp.log(jnp.diff(column))])
        return flat.at[:, self.coordinate].set(steps).reshape(spread.shape)

    def log_abs_det_jacobian(self, free: jax.Array, value: jax.Array) -> Float[Array, ""]:
        """That of the unordered transform plus that of the order."""
        steps = free.reshape(len(free), -1)[:, self.coordinate]
        return jnp.sum(self.transform.log_abs_det_jacobian(self._spread(free), value)) + jnp.sum(steps[1:])

    def inverse_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """That of the unordered transform."""
        free_shape: tuple[int, ...] = self.transform.inverse_shape(shape)
        return free_shape

    def arranged(self, value: jax.Array) -> tuple[Int[Array, " K"], jax.Array]:
        """The order of the memories, and their values in it, parted where they tie."""
        spread = jnp.asarray(self.transform.inv(value))
        flat = spread.reshape(len(spread), -1)
        order = jnp.argsort(flat[:, self.coordinate])
        flat = flat[order]
        column = flat[:, self.coordinate]
        untied = jnp.cumsum(jnp.concatenate([column[:1], _parted(jnp.diff(column))]))
        return order, jnp.asarray(self.transform(flat.at[:, self.coordinate].set(untied).reshape(spread.shape)))


class OrderedWeights:
    """Proportions (K,) that decrease."""

    def __call__(self, free: jax.Array) -> jax.Array:
        """Decreasing proportions."""
        return jax.nn.softmax(jnp.concatenate([jnp.zeros(1, free.dtype), -jnp.cumsum(jnp.exp(free))]))

    def inv(self, value: jax.Array) -> jax.Array:
        """Inverse of the call; not a number where the proportions do not decrease."""
        return jnp.log(-jnp.diff(jnp.log(value)))

    def log_abs_det_jacobian(self, free: jax.Array, value: jax.Array) -> Float[Array, ""]:
        """Of the first K - 1 proportions by t: the product of all proportions and of all steps."""
        return jnp.sum(jnp.log(value)) + jnp.sum(free)

    def inverse_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """One number less."""
        return (*shape[:-1], shape[-1] - 1)

    def arranged(self, value: jax.Array) -> tuple[Int[Array, " K"], jax.Array]:
        """The order of the memories, and their proportions in it, parted where they tie."""
        order = jnp.argsort(-value)
        gaps = _parted(-jnp.diff(jnp.log(value[order])))
        return order, self(jnp.log(gaps))


def _parted(gaps: Float[Array, " J"]) -> Float[Array, " J"]:
    """Gaps that are all positive."""
    mean = jnp.mean(gaps)
    return jnp.maximum(gaps, jnp.where(mean > 0, _LEAST_GAP * mean, _LEAST_GAP))


def unordered(model: Model) -> Model:
    """The model without its order."""
    return model.model if isinstance(model, OrderedModel) else model


def in_order(model: Model, order: str, coordinate: int = 0) -> Model:
    """The model with its memories in order: "none", by "location" (a coordinate of it) or by "weight".

    Raises :class:`probam.errors.InputError` where the restriction would change the posterior, or there is nothing to
    order by.
    """
    if order not in ORDERS:
        raise InputError(f"order: expected one of {', '.join(ORDERS)}; got {order!r}")
    if coordinate and order != "location":
        raise InputError(f"order_by: a coordinate of the location is for order 'location'; got it with {order!r}")
    weights, num_components = model.weights, model.num_components
    if order == "none" or num_components == 1:
        return model
    if numbers_memories(model.row_weight):
        raise InputError("order: the known labels number the memories already; leave order at 'none'")
    sites = weights.start(num_components)
    if "sticks" in sites:
        raise InputError(
            "order: stick-breaking weights ('dp', 'pyp') are not the same under all numberings of the memories, "
            "so that an order would change the posterior; leave order at 'none' and relabel the draws, or use weights "
            "'dirichlet' or 'uniform'"
        )
    if not sites and np.ptp(np.asarray(weights.log_weights({}, num_components))) > 0:
        raise InputError(
            "order: fixed weights that differ tell the memories apart already; leave order at 'none', or use weights "
            "'uniform' or 'dirichlet'"
        )
    if order == "weight" and "proportions" not in sites:
        raise InputError(
            f"order: weights {weights.name!r} are all equal, and give no order; use order 'location', or weights "
            "'dirichlet'"
        )
    if order == "location":
        family = model.family
        shape = model.prior[family.location].event_shape
        size = int(np.prod(shape)) if shape else 1
        if family.location in family.shared or not 0 <= coordinate < size:
            raise InputError(
                f"order_by: expected the number of a coordinate of {family.location!r}, 0 to {size - 1}; "
                f"got {coordinate}"
            )
    return OrderedModel(model, order, coordinate)


def described_order(model: Model) -> str:
    """The order in words, empty where there is none."""
    if not isinstance(model, OrderedModel):
        return ""
    by = "falling weight" if model.order == "weight" else f"coordinate {model.coordinate} of {model.site!r}"
    return f"memories numbered by {by}"
