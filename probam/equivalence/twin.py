r"""Twins, both ways: the energy of a fitted bank, and the density of a memory.

.. math:: \log p(x) = -\text{scale} \cdot E(x) - \text{constant}

:func:`twin` gives the density of a memory (:mod:`probam.equivalence.memory_twins`). The energy of a bank is computed
from its parameters alone:

:func:`bank_twin` dispatches on the type of the bank, and :func:`independent_twin` on the base distribution of an
``Independent`` bank. The twins are in :mod:`probam.equivalence.twins` and :mod:`probam.equivalence.continuous_twins`,
which the package imports, so that the answer does not depend on what else was imported. The densities of memories are
imported when the first one is asked for: they bring all energies, which a fit does not need.
"""

from collections.abc import Callable
from functools import singledispatch
from importlib import import_module
from typing import NamedTuple

import jax
import numpyro.distributions as dist
from jax.tree_util import Partial
from jaxtyping import Array, Float
from numpyro.distributions import Distribution

from probam.energies.memory import Memory

__all__ = ["Density", "Map", "Twin", "bank_twin", "independent_twin", "recall_functions", "twin", "with_parameters"]

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


class Density(NamedTuple):
    """The statistics of a memory: log p(x) = -scale * energy(x) - constant, p the density of a distribution."""

    distribution: Distribution
    scale: Float[Array, ""]
    constant: Float[Array, ""]


@singledispatch
def twin(memory: Memory) -> Density | str:
    """The density that a memory is the energy of, or the reason why there is none; ``twin.register`` adds one.

    >>> import jax.numpy as jnp
    >>> from probam.energies.clam import Clam
    >>> memory = Clam(jnp.array([[0.0], [4.0]]), beta=0.5)  # standard deviation 1
    >>> density = twin(memory)
    >>> round(density.constant.item(), 3)  # log 2 + log(2 pi) / 2
    1.612
    """
    import_module("probam.equivalence.memory_twins")
    registered = twin.dispatch(type(memory))
    if registered is not twin.dispatch(object):
        return registered(memory)
    return "no density was registered for this kind of memory (probam.equivalence.twin.twin.register)"


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
