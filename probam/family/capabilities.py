"""What a family can do beyond its density: one class for each thing that some engine asks for.

A :class:`Capability` is a set of methods. A family has it when it defines the abstract ones, whether it inherits from
the class (then the type checker compares the signatures) or from :class:`probam.family.Family` alone; the other methods
have defaults. An engine asks for the family in that role::

    m_step = MStep.ask(family)  # the family as an MStep, or Absent with the reason in words
    m_step = MStep.of(family)  # the same, where absence is an error

========================= ================================================== ==========================
capability                gives                                              asked for by
========================= ================================================== ==========================
:class:`DataSpace`        checks, units and points of the data space         fits, reports, every engine
:class:`Start`            parameters near an assignment of the data          every engine
:class:`Gradients`        a log density to follow along its gradient         gradient_em, svi, nuts, smc
:class:`Guide`            a posterior that a Gaussian guide covers           svi
:class:`Statistics`       sums that hold all the data say of a memory        em, gibbs
:class:`MStep`            parameters that maximise the expected log joint    em, warm starts
:class:`AdditiveMStep`    the same from sums of ``statistics`` alone         em
:class:`Conditionals`     draws of parameters given each memory's data       gibbs, streams
:class:`Conjugacy`        parameters that can be integrated out              gibbs, cavi, streams
:class:`MeanFieldFactors` factors of a mean field in closed form             cavi
:class:`MissingEntries`   a density of the observed entries of a row         every engine
:class:`ExpectedSums`     sums of rows with missing entries, expected        em
========================= ================================================== ==========================
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache, lru_cache, partial
from typing import Any, ClassVar, Literal, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpyro.distributions import Distribution
from numpyro.distributions.constraints import Constraint

from probam.conjugacy.mean_field import MeanField
from probam.conjugacy.pairs import ConjugatePair
from probam.distributions.supports import fixed_support, outside, support_in_words
from probam.errors import InputError, RowError
from probam.family import Family, Moments, Params, Prior
from probam.family.own import place_of

__all__ = [
    "Absent",
    "AdditiveMStep",
    "Capability",
    "Conditionals",
    "Conjugacy",
    "DataSpace",
    "ExpectedSums",
    "Gradients",
    "Guide",
    "MStep",
    "MeanFieldFactors",
    "MissingEntries",
    "Start",
    "Statistics",
]


_C = TypeVar("_C", bound="Capability")


@dataclass(frozen=True)
class Absent:
    """The answer of a family that does not have a capability; false, where a capability is true."""

    reason: str

    def __bool__(self) -> Literal[False]:
        return False


class Capability(Family):
    """A family seen in one role."""

    _reason: ClassVar[str] = ""
    """Attribute by which a family says why it lacks the capability."""

    _otherwise: ClassVar[str] = "it does not define the methods"
    """The reason of a family that gives none."""

    def _is_available(self) -> bool:
        """Whether the options of this very family leave it the capability that its class has."""
        return True

    @classmethod
    def ask(cls: type[_C], family: Family) -> _C | Absent:
        """The family in this role, or why it cannot fill it."""
        completed = _completed(family)
        if isinstance(completed, cls) and cls._is_available(completed):  # of this role, not of the first in the class
            return completed
        return Absent(getattr(family, cls._reason, "") or cls._otherwise)

    @classmethod
    def of(cls: type[_C], family: Family) -> _C:
        """The family in this role. Raises :class:`probam.errors.InputError` with the reason where it cannot fill it."""
        answer = cls.ask(family)
        if isinstance(answer, Absent):
            raise InputError(f"family: {family.name!r} has no {cls.__name__}: {answer.reason}")
        return answer


class DataSpace(Capability):
    """Data and memories as points of one space; every family has it."""

    def check_support(self, x: np.ndarray, columns: Sequence[str]) -> None:
        """Raise :class:`probam.errors.InputError` where a row of ``x`` (N, D) is outside the family's support.

        By default the support is the one that the family's bank has for all parameters. ``columns`` are the D names
        that the message can use.
        """
        support = _bank_support(self, x.shape[1])
        rows = None if support is None else outside(support, x)
        if support is None or rows is None:
            return
        where = "" if rows.column is None else f", column {columns[rows.column]!r}: {x[rows.row, rows.column]:g}"
        raise RowError(
            f"data: {rows.num_rows} of {len(x)} rows are outside the support of family {self.name!r} "
            f"({support_in_words(support)}), the first is ",
            rows.row,
            f"{where}; leave these rows out, do not standardise the data, or use another family",
        )

    def check_data(self, x: np.ndarray, columns: Sequence[str]) -> None:
        """Raise :class:`probam.errors.InputError` where ``x`` (N, D) cannot be fitted (say, a constant column)."""
        self.check_support(x, columns)

    def frame(self, x: Float[Array, "N D"]) -> tuple[Float[Array, " D"], Float[Array, " D"]]:
        """Origin and unit of each feature in which distances between data make sense (for starts and sums)."""
        spread = jnp.std(x, axis=0)
        return jnp.mean(x, axis=0), jnp.where(spread > 0, spread, 1)

    def metric(self, x: Float[Array, "N D"], prior: Prior) -> Float[Array, "N D"]:
        """Rows moved so that their plain distances are those that make sense to the family (for starts).

        By default they are in the frame. A family whose memories lie tilted divides by what its prior guesses of their
        shape.
        """
        del prior
        origin, unit = self.frame(x)
        return (x - origin) / unit

    def memories(self, params: Mapping[str, jax.Array]) -> Float[Array, "K D"]:
        """The stored patterns as points of the data space."""
        return params[self.location]

    def spread(self, params: Mapping[str, jax.Array]) -> Float[Array, "K D"]:
        """Standard deviation of each feature within a memory."""
        return jnp.sqrt(self.bank(params).variance)

    def deterministics(self, params: Mapping[str, jax.Array]) -> Params:
        """Named functions of the sites that a reader wants to see beside them; by default none."""
        del params
        return {}


class Gradients(Capability):
    """A log density whose gradient in the parameters leads to its maxima; every family that does not say no."""

    no_gradient: ClassVar[str] = ""
    """Why engines that follow gradients in the parameters cannot fit the family; empty where they can."""

    _reason = "no_gradient"

    def _is_available(self) -> bool:
        return not self.no_gradient


class Guide(Capability):
    """A posterior that a Gaussian guide of SVI can be fitted to; every family that does not say no."""

    no_guide: ClassVar[str] = ""
    """Why no Gaussian guide can be fitted by SVI, where only that fails."""

    _reason = "no_guide"

    def _is_available(self) -> bool:
        return not self.no_guide


class Statistics(DataSpace):
    """Additive sufficient statistics: all that the data of a memory say of its parameters is in their sum."""

    linear: ClassVar[bool] = False
    """Whether ``linear_form(bank, x, zero)`` is one in ``statistics(x - zero)``, so that EM makes these once."""

    _otherwise = "it has no sufficient statistics"

    @abstractmethod
    def statistics(self, x: Float[Array, "N D"]) -> Float[Array, "N F"]:
        """Additive sufficient statistics of the rows of ``x`` (given relative to ``Moments.origin``)."""


class MStep(Capability):
    """An M-step in closed form: what engine ``em`` needs."""

    _reason = "no_m_step"
    _otherwise = "it defines neither 'statistics' and 'maximize' nor 'maximize_from'"

    @property
    def no_m_step(self) -> str:
        """Why there is no closed-form M-step, under these options or at all; empty where there is one."""
        return ""

    @property
    def closed_form(self) -> bool:
        """Whether the options of the family leave it its M-step."""
        return not self.no_m_step

    def _is_available(self) -> bool:
        return self.closed_form

    @abstractmethod
    def maximize_from(
        self, x: Float[Array, "N D"], responsibilities: Float[Array, "N K"], params: Params, prior: Prior | None
    ) -> Params:
        """Parameters that raise the expected log joint, from the data and the previous parameters.

        ``prior=None`` asks for maximum likelihood. With a prior the target is the density in the
        unconstrained coordinates in which NumPyro's samplers walk, so that the result is a stationary
        point of the very potential that NUTS sees.
        """


class AdditiveMStep(MStep, Statistics):
    """An M-step that sees the data only through sums of ``statistics``; EM then never stores responsibilities."""

    @abstractmethod
    def maximize(self, moments: Moments, params: Params, prior: Prior | None) -> Params:
        """As ``maximize_from``, from the sums over the data."""

    def moments(self, x: Float[Array, "N D"], responsibilities: Float[Array, "N K"]) -> Moments:
        """The sums of the statistics, relative to the origin of the frame."""
        origin, _ = self.frame(x)
        sums = jnp.matmul(responsibilities.T, self.statistics(x - origin), precision="highest")
        return Moments(jnp.sum(responsibilities, axis=0), sums, origin)

    def maximize_from(
        self, x: Float[Array, "N D"], responsibilities: Float[Array, "N K"], params: Params, prior: Prior | None
    ) -> Params:
        """The M-step of these data."""
        return self.maximize(self.moments(x, responsibilities), params, prior)


class Start(Capability):
    """Where an engine begins; every family has it."""

    def start(self, x: Float[Array, "N D"], assignment: Float[Array, "N K"], params: Params, prior: Prior) -> Params:
        """Parameters for a hard assignment of the data, given typical parameters at k-means++ seeds.

        Two M-steps where there is one: the first leans on typical widths, the second on the memory's own. Where the
        prior admits none the typical parameters serve.
        """
        m_step = MStep.ask(self)
        if isinstance(m_step, Absent):
            return params
        step: Callable[[Params, Prior], Params] = partial(m_step.maximize_from, x, assignment)
        if isinstance(m_step, AdditiveMStep):  # sums that both steps share
            step = partial(m_step.maximize, m_step.moments(x, assignment))
        try:
            started: Params = jax.lax.fori_loop(0, 2, lambda _, current: step(current, prior), params)
        except InputError:  # a prior of the user's that is not conjugate
            return params
        return started


class Conditionals(Statistics):
    """Exact draws of the parameters given the data of each memory; Gibbs sampling slices where there are none."""

    _otherwise = "no full conditionals are written for it"

    @abstractmethod
    def can_draw(self, prior: Prior) -> bool:
        """Whether ``draw`` exists under these priors."""

    @abstractmethod
    def draw(self, key: jax.Array, moments: Moments, params: Params, prior: Prior) -> Params:
        """Parameters after a step that leaves invariant their posterior given the data of each memory.

        ``moments`` are sums over the data that belong to each memory; ``params`` are the present values.
        """


class Conjugacy(Capability):
    """Parameters that can be integrated out: collapsed Gibbs, conjugate bases, streams."""

    _otherwise = "nothing can be integrated out of it"

    def _is_available(self) -> bool:
        pairs = ("conjugate", "conjugate_base", "approximate_pair")
        return any(getattr(type(self), name) is not getattr(Conjugacy, name) for name in pairs)

    def conjugate(self, params: Params, prior: Prior) -> ConjugatePair | None:
        """What can be integrated out of this very model when the other sites have the values in ``params``.

        The pair's own sites are read from ``prior`` and not from ``params``. None where nothing is conjugate.
        """
        del params, prior
        return None

    def conjugate_base(self, prior: Prior) -> ConjugatePair | None:
        """A base measure under which *all* parameters can be integrated out, as near as may be to ``prior``.

        None where there is none, or where :meth:`conjugate` leaves no other site anyway.
        """
        del prior
        return None

    def approximate_pair(self, params: Params, prior: Prior) -> ConjugatePair | None:
        """A conjugate pair that stands for a family without one in streams.

        Its own ``prior`` is as near as may be, the other sites have the values in ``params``. None where no pair is
        close enough to be of use.
        """
        del params, prior
        return None

    def integrated_sites(self, drawn: Params) -> Params:
        """What a pair of this family or a mean field draws, under the names (and within the limits) of its sites."""
        return drawn


class MeanFieldFactors(Capability):
    """Factors of a mean field in closed form: what engine ``cavi`` needs."""

    _otherwise = "it has no variational factors in closed form"

    @abstractmethod
    def mean_field(self, prior: Prior) -> MeanField | None:
        """Factors of the posterior of this very model, all its sites; None where these priors have none."""


class MissingEntries(Capability):
    """A density of the observed entries of a row, so that missing ones (NaN) can be integrated out."""

    no_missing: ClassVar[str] = ""
    """Why rows with missing entries cannot be used, where there is more to say than that no such density is known."""

    _reason = "no_missing"
    _otherwise = "it has no density of some of a datum's features"

    def _is_available(self) -> bool:
        return bool(self.missing)

    @property
    @abstractmethod
    def missing(self) -> str:
        """How missing entries are integrated out: "entry", "pattern", or "" where they cannot be.

        "entry" where features are independent within a memory, "pattern" where what is expected of a missing feature
        depends on which others are observed: rows that lack the same features then go together.
        """


class ExpectedSums(MissingEntries):
    """Expected sums of ``statistics`` of rows with missing entries: what engine ``em`` needs there."""

    _otherwise = "it has no expected statistics of rows with missing entries"

    @abstractmethod
    def expected_sums(
        self, params: Params, x: Float[Array, "N D"], responsibilities: Float[Array, "N K"], origin: Float[Array, " D"]
    ) -> Float[Array, "K F"]:
        """Sums of ``statistics(x - origin)`` by responsibility, each expected given the observed entries of its row.

        Under ``missing == "pattern"`` all rows lack the same features.
        """


_CAPABILITIES: tuple[type[Capability], ...] = (
    AdditiveMStep,
    MStep,
    Conditionals,
    Conjugacy,
    MeanFieldFactors,
    ExpectedSums,
    MissingEntries,
    Gradients,
    Guide,
    Start,
    Statistics,
    DataSpace,
)
"""Every capability, those that derive from another before it."""


@cache
def _completed_class(own: type[Family]) -> type[Family]:
    """The class with every capability whose abstract methods it defines and that it does not inherit from."""
    more = [
        kind
        for kind in _CAPABILITIES
        if not issubclass(own, kind) and all(hasattr(own, method) for method in kind.__abstractmethods__)
    ]
    return type(own.__name__, (own, *more), {"__module__": own.__module__}) if more else own


def _completed(family: Family) -> Family:
    """The family with the defaults of all its capabilities: the same options in :func:`_completed_class`."""
    cls = _completed_class(type(family))
    if cls is type(family):
        return family
    completed = object.__new__(cls)
    options: list[str] = [option.name for option in fields(family)] if is_dataclass(family) else []
    for name in {*vars(family), *options}:
        object.__setattr__(completed, name, getattr(family, name))
    return completed


@lru_cache(maxsize=64)
def _bank_support(family: Family, num_features: int) -> Constraint[Any] | None:
    """The support that the family's banks have for all parameters; None where it depends on them, or is all of R^D.

    Only the type of the bank counts, so a small table of some numbers between 0 and 1 stands for the data.
    """
    num_features = min(num_features, 4)
    made_up = np.linspace(0.2, 0.8, 4 * num_features).reshape(4, num_features)
    supports: list[Constraint[Any] | None] = []

    def bank(params: Params) -> None:
        supports.append(fixed_support(family.bank(params)))

    try:
        prior = family.prior(made_up.astype(_precision()))
        jax.eval_shape(bank, {site: _one_value(law, site in family.shared) for site, law in prior.items()})
    except Exception as error:
        if isinstance(error, ValueError):  # a prior that refuses such data says nothing of the support
            return None
        if place_of(family) is not None:  # what is wrong with a family of one's own the model says in a sentence
            return None
        raise
    return supports[0]


def _one_value(law: Distribution, shared: bool) -> jax.ShapeDtypeStruct:
    shape = law.event_shape if shared else (1, *law.event_shape)
    return jax.ShapeDtypeStruct(shape, _precision())


def _precision() -> np.dtype[Any]:
    """The one that JAX computes in."""
    return np.dtype(jax.dtypes.canonicalize_dtype(np.float64))
