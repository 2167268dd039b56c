"""What an engine may ask of a model: the likelihood family, the weight prior, the program.

A *bank* of K memories in D dimensions is a NumPyro distribution with ``batch_shape == (K,)`` and
``event_shape == (D,)``. A :class:`Family` says how a bank is made of named parameters and which prior
they have by default. A :class:`WeightPrior` says the same of the mixing weights. A :class:`Model`
joins the two into a NumPyro program.

Engines (``probam.inference``) see models only through these three and through the capabilities of a
family (:mod:`probam.family.capabilities`); they never import ``probam.models``.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import Field, fields, is_dataclass
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from numpyro.distributions import Distribution

from probam.conjugacy.mean_field import HyperField, KnownHyper
from probam.distributions.mixture import MemoryMixture
from probam.distributions.partitions import GibbsTypePartition
from probam.distributions.supports import innermost
from probam.errors import InputError

__all__ = [
    "ExchangeableWeights",
    "Family",
    "Model",
    "Moments",
    "Params",
    "WeightPrior",
    "conjugate",
    "family",
    "innermost",
    "register",
    "registered",
]

Params = dict[str, jax.Array]
"""Site name -> value; memory parameters lead with the K axis unless the family shares them."""

Prior = Mapping[str, Distribution]
"""Site name -> prior of one memory's parameter (of the common value, for a shared site)."""


class Moments(NamedTuple):
    """Responsibility-weighted sums over the data: all that a closed-form M-step sees."""

    counts: Float[Array, " K"]
    sums: Float[Array, "K F"]  # of the family's statistics(x - origin)
    origin: Float[Array, " D"]


class Family(ABC):
    """A likelihood family: one memory's density, its parameters and their default prior.

    ``name``, ``prior`` and ``bank`` make a family; the other members have defaults. Engines that follow gradients need
    nothing else. What a single engine needs besides is a capability (:mod:`probam.family.capabilities`), and a family
    has it when it defines the methods of that capability: ``statistics`` and ``maximize`` give closed-form EM.

    Families are frozen dataclasses without arrays (hashable, so they may be static under jit).
    """

    name: ClassVar[str]
    """What the command line and a saved fit call it."""

    location: ClassVar[str] = "loc"
    """The site that is a point of the data space: the memory itself."""

    as_they_are: ClassVar[bool] = False
    """Whether centred and scaled data make no sense to the family (bits, counts, directions)."""

    @property
    def shared(self) -> frozenset[str]:
        """Sites with one value for all memories."""
        return frozenset()

    @property
    def signature(self) -> str:
        """Name and options as :func:`family` reads them, for example ``student_t,df=4.0``."""
        words = [self.name]
        for name, option in _options(type(self)).items():
            value = getattr(self, name)
            if value != option.default:
                words.append(f"{name}={value}")
        return ",".join(words)

    @abstractmethod
    def prior(self, x: np.ndarray) -> dict[str, Distribution]:
        """The base measure: a proper default prior for each site, scaled to the data ``x`` (N, D)."""

    @abstractmethod
    def bank(self, params: Mapping[str, jax.Array]) -> Distribution:
        """The K memories as one NumPyro distribution, batch shape (K,), event shape (D,)."""


_D = TypeVar("_D", bound=Distribution)


def conjugate(prior: Prior, site: str, law: type[_D]) -> _D:
    """The prior of a site as the law that a closed-form M-step needs, out of ``expand`` and ``to_event``.

    Raises :class:`probam.errors.InputError` where it is another law.
    """
    inner = innermost(prior[site])
    if not isinstance(inner, law):
        raise InputError(
            f"prior: the closed-form M-step needs a {law.__name__} prior on {site!r}; got {type(inner).__name__}; "
            "use engine 'gradient_em', 'svi' or 'nuts' with this prior"
        )
    return inner


class WeightPrior(ABC):
    """The law of the mixing weights of K memories."""

    name: ClassVar[str]

    @abstractmethod
    def sample(self, num_components: int) -> Float[Array, " K"]:
        """NumPyro sub-program: draw the weights and return their logs."""

    @abstractmethod
    def log_weights(self, params: Mapping[str, jax.Array], num_components: int) -> Float[Array, " K"]:
        """Log weights as a function of this prior's sites."""

    @abstractmethod
    def start(self, num_components: int) -> Params:
        """Values of this prior's sites that favour no memory."""

    @abstractmethod
    def maximize(self, counts: Float[Array, " K"], params: Params, *, likelihood_only: bool) -> Params:
        """Site values that raise ``sum_k counts_k log w_k`` plus the log prior (unconstrained coordinates)."""

    def hyper_priors(self) -> dict[str, Distribution]:
        """Sites on which the other sites of this prior depend."""
        return {}

    def hyper_field(self, num_components: int) -> HyperField:
        """Variational factor of the hyper-parameters of ``num_components`` weights (made outside of jit)."""
        del num_components
        return KnownHyper()

    @abstractmethod
    def draw(self, key: jax.Array, counts: Float[Array, " K"], params: Params) -> Params:
        """Sites drawn from their posterior given how many data each memory has and the hyper-parameters."""

    @abstractmethod
    def log_marginal(self, counts: Float[Array, " K"], params: Params) -> Float[Array, ""]:
        """Log probability of assignments with these counts, the weights integrated out (nats)."""

    def marginal_terms(self, counts: Float[Array, " K"], params: Params) -> Any:
        """What ``log_marginal`` needs of the count of each memory, wherever it stands; leaves lead with the memories.

        Computed once, it serves every order of the memories (:meth:`log_marginal_of`).
        """
        del params
        return counts

    def log_marginal_of(self, terms: Any, params: Params) -> Float[Array, ""]:
        """``log_marginal`` of memories that stand in the order of these :meth:`marginal_terms`."""
        return self.log_marginal(terms, params)

    @abstractmethod
    def log_predictive(self, counts: Float[Array, " K"], params: Params) -> Float[Array, " K"]:
        """Log probability of the next datum's memory given the counts so far, the weights integrated out."""

    def orders_by_size(self, counts: Float[Array, " K"]) -> Int[Array, "O K"]:
        """Orders of the memories, of which one is likeliest for these counts; none where all orders are alike."""
        return jnp.zeros((0, len(counts)), jnp.int32)

    def likeliest_order(self, counts: Float[Array, " K"], params: Params) -> Int[Array, " K"]:
        """The order of the memories under which ``log_marginal`` of these counts is largest.

        Memory ``order[k]`` becomes memory k. The present order stays where no other is likelier.
        """
        present = jnp.arange(len(counts), dtype=jnp.int32)
        orders = jnp.concatenate([present[None], self.orders_by_size(counts)])
        return orders[jnp.argmax(jax.vmap(lambda counts: self.log_marginal(counts, params))(counts[orders]))]


class ExchangeableWeights(WeightPrior):
    """Weights that have a law of partitions with a free number of memories: for Gibbs sampling and streams."""

    @abstractmethod
    def partition_law(self, params: Params, num_slots: int, num_data: int | jax.Array) -> GibbsTypePartition:
        """The exchangeable law of partitions of ``num_data`` data into at most ``num_slots`` memories."""

    @abstractmethod
    def draw_given_partition(self, key: jax.Array, counts: Float[Array, " K"], params: Params) -> Params:
        """Sites drawn given a partition under ``partition_law``; memories that have data come first in ``counts``."""


@runtime_checkable
class Model(Protocol):
    """A mixture model as an engine sees it: a NumPyro program and its parts."""

    @property
    def family(self) -> Family:
        """The law of the data of one memory."""

    @property
    def weights(self) -> WeightPrior:
        """The law of the mixing weights."""

    @property
    def num_components(self) -> int:
        """K; the truncation under stick-breaking weights."""

    @property
    def prior(self) -> Prior:
        """The prior of each site of the memories."""

    @property
    def missing(self) -> bool:
        """Whether entries of the data may be missing (NaN)."""

    @property
    def row_weight(self) -> jax.Array | None:
        """How often each row of the data counts, (N,) or (N, K) with 0 for memories that a row cannot belong to.

        None counts each row once. The likelihood of the data is that of these rows, in this order.
        """

    def with_row_weight(self, weight: jax.Array | None) -> "Model":
        """The same model for rows that count so often."""

    def __call__(self, x: Float[Array, "N D"] | None = None, num_data: int | None = None) -> object:
        """The NumPyro program: parameters, then the data site ``x``.

        The rows of a minibatch ``x`` stand for ``num_data`` data: their log density is scaled up.
        """

    def sites(self) -> tuple[Float[Array, " K"], Params]:
        """The same program without the data: log weights and the sites of the memories, drawn from the prior."""

    def parameters(self) -> tuple[Float[Array, " K"], Distribution]:
        """:meth:`sites` with the bank in place of its sites."""

    def mixture(self, params: Mapping[str, jax.Array]) -> MemoryMixture:
        """The mixture distribution at given site values."""

    def deterministics(self, params: Mapping[str, jax.Array]) -> Params:
        """``weights`` and what else is derived from the sites."""


_FAMILIES: dict[str, type[Family]] = {}

_F = TypeVar("_F", bound=type[Family])


def register(cls: _F) -> _F:
    """Class decorator: make a family known under its ``name``."""
    known = _FAMILIES.get(cls.name)
    if known is not None and known.__qualname__ != cls.__qualname__:
        raise InputError(
            f"family: the name {cls.name!r} belongs to {known.__module__}.{known.__qualname__}; choose another"
        )
    _FAMILIES[cls.name] = cls
    return cls


def registered() -> dict[str, type[Family]]:
    """Families by name, in alphabetical order, of the modules imported so far.

    :func:`probam.families` imports all models first.
    """
    return dict(sorted(_FAMILIES.items()))


def _options(cls: type[Family]) -> dict[str, Field[Any]]:
    return {option.name: option for option in fields(cls)} if is_dataclass(cls) else {}


def family(name: str, **options: object) -> Family:
    """The family called ``name``, among the :func:`registered`, with its options (for example ``covariance="full"``).

    Options may stand in the name as well, ``student_t,df=4`` say, which is how the command line and a saved fit give
    them. Raises :class:`probam.errors.InputError` for an unknown name or option.
    """
    name, *words = name.split(",")
    if name not in _FAMILIES:
        raise InputError(f"family: expected one of {', '.join(registered())}; got {name!r}")
    cls = _FAMILIES[name]
    known = _options(cls)
    for word in words:
        option, _, text = word.partition("=")
        if option in options:
            raise InputError(f"{option}: given twice, as {text!r} and as {options[option]!r}; leave one out")
        options[option] = text
    for option, value in options.items():
        if option not in known:
            has = f"it has {', '.join(sorted(known))}" if known else "it has none"
            raise InputError(f"{option}: family {name!r} has no such option; {has}")
        if isinstance(value, str) and known[option].type is not str:
            try:
                options[option] = float(value)
            except ValueError:
                raise InputError(f"{option}: family {name!r} expects a number; got {value!r}") from None
    return cls(**options)
