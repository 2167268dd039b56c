"""What an engine may ask of a model: the likelihood family, the weight prior, the program.

A *bank* of K memories in D dimensions is a NumPyro distribution with ``batch_shape == (K,)`` and
``event_shape == (D,)``. A :class:`Family` says how a bank is made of named parameters, which prior
they have by default and, where there is one, how the parameters that maximise the expected log
density follow from additive statistics. A :class:`WeightPrior` says the same of the mixing weights.
A :class:`Model` joins the two into a NumPyro program.

Engines (``probam.inference``) see models only through these three; they never import
``probam.models``.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import Field, fields, is_dataclass
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpyro.distributions import Distribution, ExpandedDistribution, Independent

from probam.conjugacy.mean_field import HyperField, Integrated, KnownHyper, MeanField
from probam.conjugacy.pairs import ConjugatePair
from probam.distributions.mixture import MemoryMixture
from probam.distributions.partitions import GibbsTypePartition
from probam.errors import InputError

__all__ = [
    "Family",
    "Model",
    "Moments",
    "Params",
    "WeightPrior",
    "conjugate",
    "families",
    "family",
    "innermost",
    "register",
]

Params = dict[str, jax.Array]
"""Site name -> value; memory parameters lead with the K axis unless the family shares them."""

Prior = Mapping[str, Distribution]
"""Site name -> prior of one memory's parameter (of the common value, for a shared site)."""


class Moments(NamedTuple):
    """Responsibility-weighted sums over the data: all that a closed-form M-step sees."""

    counts: Float[Array, " K"]
    sums: Float[Array, "K F"]  # of Family.statistics(x - origin)
    origin: Float[Array, " D"]


class Family(ABC):
    """A likelihood family: one memory's density, its parameters and their default prior.

    Families are frozen dataclasses without arrays (hashable, so they may be static under jit).
    ``bank`` and ``prior`` are all that gradient EM, SVI, NUTS and Gibbs need; ``statistics`` and
    ``maximize`` add closed-form EM, ``draw`` faster Gibbs, ``conjugate`` collapsed Gibbs, ``mean_field``
    coordinate-ascent variational inference.
    """

    name: ClassVar[str]
    """What the command line and a saved fit call it."""

    location: ClassVar[str] = "loc"
    """The site that is a point of the data space: the memory itself."""

    as_they_are: ClassVar[bool] = False
    """Whether centred and scaled data make no sense to the family (bits, counts, directions)."""

    linear: ClassVar[bool] = False
    """Whether ``linear_form(bank, x, zero)`` is one in ``statistics(x - zero)``, so that EM makes these once."""

    no_m_step: ClassVar[str] = ""
    """Why there is no closed-form M-step, where there is more to say than that none is written."""

    no_gradient: ClassVar[str] = ""
    """Why engines that follow gradients in the parameters cannot fit the family; empty where they can."""

    no_guide: ClassVar[str] = ""
    """Why no Gaussian guide can be fitted by SVI, where only that fails."""

    no_missing: ClassVar[str] = "it has no density of some of a datum's features"
    """Why rows with missing entries cannot be used, where ``missing`` is empty."""

    @property
    def shared(self) -> frozenset[str]:
        """Sites with one value for all memories."""
        return frozenset()

    @property
    def closed_form(self) -> bool:
        """Whether there is an M-step: ``statistics`` and ``maximize``, or ``maximize_from``."""
        return False

    @property
    def additive(self) -> bool:
        """Whether the M-step sees the data only through sums of ``statistics``.

        Where it does not (a weighted median is no function of sums), EM hands data and responsibilities to
        ``maximize_from`` instead.
        """
        return True

    @property
    def missing(self) -> str:
        """How missing entries (NaN) are integrated out: "entry", "pattern", or "" where they cannot be.

        "entry" where features are independent within a memory, "pattern" where what is expected of a missing feature
        depends on which others are observed: rows that lack the same features then go together.
        """
        return ""

    @property
    def signature(self) -> str:
        """Name and options as :func:`family` reads them, for example ``student_t,df=4.0``."""
        said = [self.name]
        for name, option in _options(type(self)).items():
            value = getattr(self, name)
            if value != option.default:
                said.append(f"{name}={value}")
        return ",".join(said)

    @abstractmethod
    def prior(self, x: np.ndarray) -> dict[str, Distribution]:
        """The base measure: a proper default prior for each site, scaled to the data ``x`` (N, D)."""

    @abstractmethod
    def bank(self, params: Mapping[str, jax.Array]) -> Distribution:
        """The K memories as one NumPyro distribution, batch shape (K,), event shape (D,)."""

    def check_support(self, x: np.ndarray, columns: Sequence[str]) -> None:  # noqa: B027
        """Raise :class:`probam.errors.InputError` where a row of ``x`` (N, D) is outside the family's support.

        ``columns`` are the D names that the message can use.
        """

    def check_data(self, x: np.ndarray, columns: Sequence[str]) -> None:
        """Raise :class:`probam.errors.InputError` where ``x`` (N, D) cannot be fitted (say, a constant column)."""
        self.check_support(x, columns)

    def frame(self, x: Float[Array, "N D"]) -> tuple[Float[Array, " D"], Float[Array, " D"]]:
        """Origin and unit of each feature in which distances between data make sense (for starts and sums)."""
        spread = jnp.std(x, axis=0)
        return jnp.mean(x, axis=0), jnp.where(spread > 0, spread, 1)

    def memories(self, params: Mapping[str, jax.Array]) -> Float[Array, "K D"]:
        """The stored patterns as points of the data space."""
        return params[self.location]

    def spread(self, params: Mapping[str, jax.Array]) -> Float[Array, "K D"]:
        """Standard deviation of each feature within a memory."""
        return jnp.sqrt(self.bank(params).variance)

    def deterministics(self, params: Mapping[str, jax.Array]) -> Params:  # noqa: ARG002
        """Named functions of the sites that a reader wants to see beside them."""
        return {}

    def statistics(self, x: Float[Array, "N D"]) -> Float[Array, "N F"]:
        """Additive sufficient statistics of the rows of ``x`` (given relative to ``Moments.origin``)."""
        raise NotImplementedError(f"family {self.name!r} has no sufficient statistics")

    def expected_sums(
        self, params: Params, x: Float[Array, "N D"], responsibilities: Float[Array, "N K"], origin: Float[Array, " D"]
    ) -> Float[Array, "K F"]:
        """Sums of ``statistics(x - origin)`` by responsibility, each expected given the observed entries of its row.

        Under ``missing == "pattern"`` all rows lack the same features.
        """
        raise NotImplementedError(f"family {self.name!r} has no expected statistics of rows with missing entries")

    def maximize(self, moments: Moments, params: Params, prior: Prior | None) -> Params:
        """Parameters that raise the expected log joint, from the moments and the previous parameters.

        ``prior=None`` asks for maximum likelihood. With a prior the target is the density in the
        unconstrained coordinates in which NumPyro's samplers walk, so that the result is a stationary
        point of the very potential that NUTS sees.
        """
        raise NotImplementedError(f"family {self.name!r} has no closed-form M-step")

    def can_draw(self, prior: Prior) -> bool:  # noqa: ARG002
        """Whether ``draw`` exists under these priors (Gibbs falls back on slice sampling where it does not)."""
        return False

    def draw(self, key: jax.Array, moments: Moments, params: Params, prior: Prior) -> Params:
        """Parameters after a step that leaves invariant their posterior given the data of each memory.

        ``moments`` are sums over the data that belong to each memory; ``params`` are the present values.
        """
        raise NotImplementedError(f"family {self.name!r} has no full conditionals")

    def conjugate(self, params: Params, prior: Prior) -> ConjugatePair | None:  # noqa: ARG002
        """What can be integrated out of this very model when the other sites have the values in ``params``.

        The pair's own sites are read from ``prior`` and not from ``params``. None where nothing is conjugate.
        """
        return None

    def conjugate_base(self, prior: Prior) -> ConjugatePair | None:  # noqa: ARG002
        """A base measure under which *all* parameters can be integrated out, as near as may be to ``prior``.

        None where there is none, or where :meth:`conjugate` leaves no other site anyway.
        """
        return None

    def mean_field(self, prior: Prior) -> MeanField | None:  # noqa: ARG002
        """Factors in closed form of the posterior of this very model, all its sites; None where there are none."""
        return None

    def conjugate_mean_field(self, prior: Prior) -> MeanField | None:
        """The same under ``conjugate_base``: one joint factor for all parameters of a memory."""
        pair = self.conjugate_base(prior)
        return None if pair is None else Integrated(pair)

    def approximate_pair(self, params: Params, prior: Prior) -> ConjugatePair | None:  # noqa: ARG002
        """A conjugate pair that stands for this family where it has none, for streams; its own ``prior`` as near as
        may be, the other sites at the values in ``params``. None where there is none worth having."""
        return None

    def integrated_sites(self, drawn: Params) -> Params:
        """What a pair of this family or a mean field draws, under the names (and within the limits) of its sites."""
        return drawn

    def maximize_from(
        self, x: Float[Array, "N D"], responsibilities: Float[Array, "N K"], params: Params, prior: Prior | None
    ) -> Params:
        """As ``maximize``, from the data themselves: the M-step of a family that is not ``additive``."""
        raise NotImplementedError(f"family {self.name!r} has no M-step from the data")

    def start(self, x: Float[Array, "N D"], assignment: Float[Array, "N K"], params: Params, prior: Prior) -> Params:
        """Where an engine begins, given a hard assignment of the data and typical parameters at k-means++ seeds.

        Two M-steps where there is one: the first leans on typical widths, the second on the memory's own. Where the
        prior admits none the typical parameters serve.
        """
        if not self.closed_form:
            return params
        if self.additive:
            origin, _ = self.frame(x)
            sums = jnp.matmul(assignment.T, self.statistics(x - origin), precision="highest")
            moments = Moments(jnp.sum(assignment, axis=0), sums, origin)

        def m_step(_: int, given: Params) -> Params:
            if self.additive:
                return self.maximize(moments, given, prior)
            return self.maximize_from(x, assignment, given, prior)

        try:
            found: Params = jax.lax.fori_loop(0, 2, m_step, params)
        except InputError:  # a prior of the user's that is not conjugate
            return params
        return found


_D = TypeVar("_D", bound=Distribution)


def innermost(law: Distribution) -> Distribution:
    """A distribution out of ``expand`` and ``to_event``."""
    while isinstance(law, Independent | ExpandedDistribution):
        law = law.base_dist
    return law


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

    def draw(self, key: jax.Array, counts: Float[Array, " K"], params: Params) -> Params:
        """Sites drawn from their posterior given how many data each memory holds and the hyper-parameters."""
        raise NotImplementedError(f"weights {self.name!r} have no full conditional")

    def log_marginal(self, counts: Float[Array, " K"], params: Params) -> Float[Array, ""]:
        """Log probability of assignments with these counts, the weights integrated out (nats)."""
        raise NotImplementedError(f"weights {self.name!r} have no marginal law of assignments")

    def log_predictive(self, counts: Float[Array, " K"], params: Params) -> Float[Array, " K"]:
        """Log probability of the next datum's memory given the counts so far, the weights integrated out."""
        raise NotImplementedError(f"weights {self.name!r} have no predictive law of assignments")

    def hyper_field(self, num_components: int) -> HyperField:  # noqa: ARG002
        """Variational factor of the hyper-parameters of ``num_components`` weights (made outside of jit)."""
        return KnownHyper()

    def partition_law(self, params: Params, num_slots: int, num_data: int) -> GibbsTypePartition | None:  # noqa: ARG002
        """The exchangeable law of partitions whose number of memories is free; None where there is none."""
        return None

    def draw_given_partition(self, key: jax.Array, counts: Float[Array, " K"], params: Params) -> Params:
        """Sites drawn given a partition under ``partition_law``; memories that hold data come first in ``counts``."""
        raise NotImplementedError(f"weights {self.name!r} have no exchangeable law of partitions")


class Model(Protocol):
    """A mixture model as an engine sees it: a NumPyro program and its parts."""

    @property
    def family(self) -> Family: ...  # noqa: D102
    @property
    def weights(self) -> WeightPrior: ...  # noqa: D102
    @property
    def num_components(self) -> int: ...  # noqa: D102
    @property
    def prior(self) -> Prior: ...  # noqa: D102
    @property
    def missing(self) -> bool:
        """Whether entries of the data may be missing (NaN)."""

    def __call__(self, x: Float[Array, "N D"] | None = None, num_data: int | None = None) -> object:
        """The NumPyro program: parameters, then the data site ``x``.

        Rows of ``x`` stand for ``num_data`` data (their log density is scaled up), which is how
        minibatches are seen.
        """

    def parameters(self) -> tuple[Float[Array, " K"], Distribution]:
        """The same program without the data: log weights and bank drawn from the prior."""

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


def families() -> dict[str, type[Family]]:
    """Known families by name, in alphabetical order."""
    return dict(sorted(_FAMILIES.items()))


def _options(cls: type[Family]) -> dict[str, Field[Any]]:
    return {option.name: option for option in fields(cls)} if is_dataclass(cls) else {}


def family(name: str, **options: object) -> Family:
    """The family called ``name`` with its options (for example ``covariance="full"``).

    Options may stand in the name as well, ``student_t,df=4`` say, which is how the command line and a saved fit give
    them. Raises :class:`probam.errors.InputError` for an unknown name or option.
    """
    name, *words = name.split(",")
    if name not in _FAMILIES:
        raise InputError(f"family: expected one of {', '.join(families())}; got {name!r}")
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
