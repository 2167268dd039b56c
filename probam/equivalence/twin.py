r"""Physical twins: the energy of a fitted bank, computed from its parameters alone, and how a family gets one.

.. math:: \log p(x) = -\text{scale} \cdot E(x) - \text{constant}

:func:`bank_twin` dispatches on the type of the bank, and :func:`independent_twin` on the base distribution of an
``Independent`` bank. The twins are in :mod:`probam.equivalence.twins` and :mod:`probam.equivalence.continuous_twins`,
which the package imports, so that the answer does not depend on what else was imported.
"""

from collections.abc import Callable
from functools import singledispatch
from typing import NamedTuple

import jax
import numpyro.distributions as dist
from jax.tree_util import Partial
from jaxtyping import Array, Float
from numpyro.distributions import Distribution

__all__ = ["Map", "Twin", "bank_twin", "independent_twin", "recall_functions", "with_parameters"]

Map = Callable[[jax.Array], jax.Array]
"""A function of states, rows (..., D)."""


class Twin(NamedTuple):
    """The physics of a mixture: log p(x) = -scale * energy(x) - constant. States are rows (..., D).

    ``retract`` maps a point to the sphere, where the memories are directions; ``inside`` maps a point to one where the
    energy is defined, and is ``None`` where it is defined everywhere. Without ``update``, recall follows the gradient.
    A text in ``still`` is the reason why there are no retrieval dynamics.
    """

    name: str
    energy: Map
    update: Map | None
    responsibilities: Map | None
    scale: Float[Array, ""]
    constant: Float[Array, ""]
    retract: Map | None = None
    inside: Map | None = None
    still: str = ""


@singledispatch
def bank_twin(bank: Distribution, log_weights: Float[Array, " K"]) -> Twin | None:
    """The physical twin of a bank of memories with these log weights; ``None`` for a bank without one."""
    del bank, log_weights
    return None


@singledispatch
def independent_twin(base: Distribution, bank: Distribution, log_weights: Float[Array, " K"]) -> Twin | None:
    """:func:`bank_twin` of an ``Independent`` bank, dispatched on its base distribution."""
    del base, bank, log_weights
    return None


@bank_twin.register
def _(bank: dist.Independent, log_weights: jax.Array) -> Twin | None:
    return independent_twin(bank.base_dist, bank, log_weights)


def recall_functions(
    energy: Callable[..., jax.Array],
    update: Callable[..., jax.Array],
    responsibilities: Callable[..., jax.Array],
    **parameters: object,
) -> tuple[Map, Map, Map]:
    """The three functions of recall, each a function of states alone (:func:`with_parameters`)."""
    return (
        with_parameters(energy, **parameters),
        with_parameters(update, **parameters),
        with_parameters(responsibilities, **parameters),
    )


def with_parameters(function: Callable[..., jax.Array], **parameters: object) -> Map:
    """A function of states alone, with the parameters of one draw; a pytree, so that draws share a compiled program."""
    function_of_states: Map = Partial(function, **parameters)
    return function_of_states
