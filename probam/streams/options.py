"""The options of a stream, named once: the keywords of :class:`probam.Stream`, its flags, what its files keep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from probam.errors import InputError, shown
from probam.fits.options import SEEDS, family_or_name
from probam.options import (
    Options,
    boolean,
    number,
    one_of,
    option,
    option_of,
    optional,
    whole_number,
    whole_number_in,
    word,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpyro.distributions import Distribution

    from probam.family import Family

__all__ = ["StreamOptions"]

_MODEL, _STREAM = "Model", "Stream"
_CHANGE, _PROCESS = "Non-stationary streams", "Learning alpha and discount"
_KEPT_WHERE_CHANGED = (_CHANGE, _PROCESS)
"""Groups of options that a file keeps only where they differ from the defaults."""

_ALPHA_PRIOR, _DISCOUNT_PRIOR = (1.0, 1.0), (1.0, 3.0)  # those of probam.models.weights


# --- checks of one option -------------------------------------------------------------------------------------


def _check_choice(name: str, value: Any) -> None:
    """The value is one of the words that the engine knows for this option (which imports the engine)."""
    from probam.inference.stream.decay import FADINGS
    from probam.inference.stream.kernel import ENERGIES, RULES
    from probam.inference.stream.resampling import RESAMPLINGS

    choices = {"energy": ENERGIES, "fading": FADINGS, "resampling": RESAMPLINGS, "rule": RULES}
    one_of(*choices[name])(name, value)


def _check_sites(name: str, value: Any) -> None:
    if not isinstance(value, Mapping) or not all(isinstance(site, str) for site in value):
        raise InputError(f"{name}: expected a mapping from names of sites, such as {{'beta': ...}}; got {shown(value)}")


def _check_known(name: str, value: Any) -> None:
    import numpy as np

    _check_sites(name, value)
    for site, numbers in value.items():
        try:
            np.asarray(numbers, np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(f"{name}: expected numbers for site {site!r}; got {shown(numbers)}") from error


def _check_law(name: str, value: Any) -> None:
    _law(name, value, (1.0, 1.0))


def _law(name: str, value: Any, standard: tuple[float, float]) -> tuple[float, float] | None:
    """The two numbers of the prior of a parameter that is learned; None where it is not learned."""
    if value is None or value is False:
        return None
    if value is True:
        return standard
    try:
        first, second = map(float, value)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: expected True, or the two numbers of its prior; got {shown(value)}") from error
    return first, second


_check_interval = whole_number(least=0, what="number of rows")
_check_count = whole_number(least=0, what="number of data")
_check_number_of = whole_number_in("a whole number from 1 to 2^20", 1, 2**20)


@dataclass(frozen=True, kw_only=True)
class StreamOptions(Options):
    """How a stream makes memories, what it keeps, and what of it changes with time."""

    family: str | Family = option(
        "gaussian",
        check=family_or_name,
        group=_MODEL,
        flag=str,
        help="What a memory is: gaussian, vmf, bernoulli, multinomial, or laplace (by an approximation); FILE.py:Name "
        "is a family of your own, with a conjugate pair, whose file is executed.",
    )
    covariance: str | None = option(
        None,
        check=optional(word),
        group=_MODEL,
        flag=str | None,
        metavar="KIND",
        help="Covariance of Gaussian memories: isotropic (a known variance), spherical, diagonal or full (learned).",
    )
    alpha: float = option(
        1.0,
        check=number(),
        group=_MODEL,
        flag=float,
        metavar="A",
        help="Strength of the two-parameter Chinese restaurant process: a larger one makes more memories (`probam "
        "prior` helps to choose it).",
    )
    discount: float = option(
        0.0,
        check=number(),
        group=_MODEL,
        flag=float,
        metavar="D",
        help="0 is the Dirichlet process; a value nearer to 1, and below it, keeps a longer tail of small memories.",
    )
    rule: str | None = option(
        None,
        check=optional(_check_choice),
        group=_STREAM,
        flag=str | None,
        metavar="RULE",
        help="Where a datum goes: map (the most probable memory; the default of one particle) or sample (a memory "
        "drawn by its probability; the default of several particles, which need it).",
    )
    energy: str = option(
        "collapsed",
        check=_check_choice,
        group=_STREAM,
        flag=str,
        help="Score of a datum: collapsed (locations integrated out: exact), conditional (Eq. 12 with its normaliser, "
        "locations at their posterior means) or printed (Eq. 12 as printed, which makes far too many memories in many "
        "dimensions). The last two are for Gaussians of known variance.",
    )
    seed: int | np.integer[Any] = option(
        0,
        check=SEEDS,
        flag=int,
        help="Seed of everything random: the rule sample, the rows of the reservoir, the draws of a fit. The same seed "
        "and data give the same bits.",
    )
    prior: Mapping[str, Distribution] | None = option(
        None,
        check=optional(_check_sites),
        group=_MODEL,
        help="NumPyro distributions that replace the default priors of the family's sites, by name of the site.",
    )
    known: Mapping[str, Any] | None = option(
        None,
        check=optional(_check_known),
        group=_MODEL,
        help='Values of sites that are not learned, in model units: {"beta": 2.0}, {"precision": [...]}, '
        '{"concentration": 50.0}. Where a family has no conjugate pair without one (isotropic Gaussians) the default '
        "is the middle of its prior.",
    )
    base: str = option(
        "evidence",
        check=one_of("evidence", "prior"),
        group=_MODEL,
        flag=str,
        metavar="RULE",
        help="Where memories of Gaussians and vMF get the prior of their width or concentration: evidence (the first "
        "rows are divided into groups, and the prior is the one under which their marginal likelihood is largest; not "
        "where memories move or the width is given) or prior (the family's default, scaled by all rows).",
    )
    standardise: bool = option(
        False,
        check=boolean,
        group=_MODEL,
        flag=bool,
        help="Use (x - mean) / sd, with the mean and sd of the first rows (see warm).",
    )
    normalise: bool = option(
        False,
        check=boolean,
        group=_MODEL,
        flag=bool,
        help="Divide each row by its length, for family vmf; so are the rows of every question.",
    )
    warm: int = option(
        1000,
        check=whole_number(least=2, what="number of rows"),
        group=_STREAM,
        flag=int,
        metavar="N",
        help="Number of first rows from which the default prior and the units are taken. They are held back until all "
        "of them have come, or until a question is asked.",
    )
    tidy_every: int = option(
        0,
        check=_check_interval,
        group=_STREAM,
        flag=int,
        metavar="N",
        help="Prune and merge memories after every N data; 0 never does.",
    )
    merge: bool = option(
        True,
        check=boolean,
        group=_STREAM,
        help="Whether tidying merges two memories where that raises the joint posterior of all labels.",
    )
    prune_count: int = option(
        0,
        check=_check_count,
        group=_STREAM,
        help="Tidying drops memories of at most this many data that are old enough (see prune_age); 0 drops none.",
    )
    prune_age: int = option(
        0,
        check=_check_count,
        group=_STREAM,
        help="Memories are pruned if they were made more than this many data ago.",
    )
    reservoir: int = option(
        2000,
        check=whole_number(least=2, what="number of rows"),
        group=_STREAM,
        help="Number of rows that are kept as a uniform sample of all that came; a fit of the stream shows them.",
    )
    capacity: int = option(
        128,
        check=whole_number_in("a number of slots from 1 to 2^20", 1, 2**20),
        group=_STREAM,
        help="Slots for memories to begin with; they double when all are taken.",
    )
    particles: int = option(
        1,
        check=_check_number_of,
        group=_STREAM,
        flag=int,
        metavar="P",
        help="Partitions of the data that are followed side by side, weighted and resampled: several give a posterior "
        "of partitions and an unbiased evidence, at so many times the cost and memory.",
    )
    resampling: str = option(
        "systematic",
        check=_check_choice,
        group=_STREAM,
        flag=str,
        metavar="RULE",
        help="How several particles are resampled: systematic, or optimal (the most probable assignments in all "
        "particles are kept, some of the others drawn, and no two particles are alike: a smaller error at a greater "
        "cost).",
    )
    rejuvenate_every: int = option(
        0,
        check=_check_interval,
        group=_STREAM,
        flag=int,
        metavar="N",
        help="Reassign the rows of the window after every N data, by Gibbs sampling and split-merge moves that leave "
        "the posterior unchanged; 0 never does, and a row then stays in the memory that it joined.",
    )
    window: int = option(
        500,
        check=_check_number_of,
        group=_STREAM,
        flag=int,
        metavar="N",
        help="Number of most recent rows that rejuvenation can reassign.",
    )
    half_life: float | None = option(
        None,
        check=optional(number()),
        group=_CHANGE,
        flag=float | None,
        metavar="N",
        help="Number of data after which a datum counts half towards the weight of its memory: memories fade and can "
        "revive, their locations stay. Without it nothing fades.",
    )
    fading: str = option(
        "exponential",
        check=_check_choice,
        group=_CHANGE,
        help="How counts fade: exponential, or power for a long memory, (1 + age / tau)^-exponent.",
    )
    fading_exponent: float = option(
        1.0,
        check=number(),
        group=_CHANGE,
        help="Exponent of the power law.",
    )
    drift: float = option(
        0.0,
        check=number(what="variance for each datum", least=0, is_finite=True),
        group=_CHANGE,
        flag=float,
        metavar="V",
        help="Variance of the step that the location of each memory makes at every datum (a random walk, in data "
        "units), for Gaussians of known variance.",
    )
    forget: float | None = option(
        None,
        check=optional(number(what="half-life in data", above=0)),
        group=_CHANGE,
        help="Half-life, in data, of what a memory has learned: one that is not used returns to the prior. Without it "
        "nothing is forgotten.",
    )
    forgetting: str = option(
        "statistics",
        check=one_of("statistics", "diffusion"),
        group=_CHANGE,
        help="How memories forget: statistics (the likelihood of a datum is raised to a power that falls with its age; "
        "any family) or diffusion (locations diffuse, with the prior as their stationary law; Gaussians of known "
        "variance).",
    )
    slots: int = option(
        0,
        check=whole_number_in("a number of memories from 1 to 2^20, or 0 for no limit", 0, 2**20),
        group=_CHANGE,
        flag=int,
        metavar="M",
        help="Largest number of memories that are kept: a new one replaces the one of least weight. 0 sets no limit.",
    )
    learn_alpha: bool | Sequence[float] = option(
        False,
        check=_check_law,
        group=_PROCESS,
        flag=bool,
        help="Draw alpha from its posterior as data come, under the prior Gamma(1, 1) or, in Python, (shape, rate). "
        "With the rule sample each particle begins with a draw from the prior and learns its own.",
    )
    learn_discount: bool | Sequence[float] = option(
        False,
        check=_check_law,
        group=_PROCESS,
        flag=bool,
        help="Draw the discount (and alpha) from its posterior too, under the prior Beta(1, 3) or, in Python, (a, b).",
    )
    learn_every: int = option(
        100,
        check=whole_number(least=1, what="number of data"),
        group=_PROCESS,
        help="Number of data between two such draws.",
    )

    def check_together(self) -> None:
        """Raise :class:`probam.errors.InputError` where options cannot go together."""
        _check_process(self)
        _check_particles(self)
        _check_tidying(self)
        _check_motion(self)
        _check_order_matters(self)

    # --- what follows from them -------------------------------------------------------------------------------

    @property
    def assignment_rule(self) -> str:
        """The rule, or the default that follows from the number of particles."""
        return self.rule or ("map" if self.particles == 1 else "sample")

    @property
    def begins_with_groups(self) -> bool:
        """Whether the first rows join the memories of the groups that set the base measure.

        They do where each datum goes to its most probable memory and stays there.
        """
        return self.assignment_rule == "map" and not (self.is_filtered or self.tidy_every or self.slots)

    @property
    def is_filtered(self) -> bool:
        """Whether the stream is a particle filter (rejuvenation needs one, of one particle too)."""
        return self.particles != 1 or self.rejuvenate_every > 0

    @property
    def is_moving(self) -> bool:
        """Whether the posterior of a memory changes while it is not used."""
        return self.drift > 0 or self.forget is not None

    @property
    def alpha_prior(self) -> tuple[float, float] | None:
        """Shape and rate of the Gamma prior of alpha; None where it is not learned (it is where the discount is)."""
        prior = _law("learn_alpha", self.learn_alpha, _ALPHA_PRIOR)
        return _ALPHA_PRIOR if prior is None and self.discount_prior is not None else prior

    @property
    def discount_prior(self) -> tuple[float, float] | None:
        """The numbers of the Beta prior of the discount; None where it is not learned."""
        return _law("learn_discount", self.learn_discount, _DISCOUNT_PRIOR)

    @property
    def estimates_evidence(self) -> bool:
        """Whether the log score is a log evidence whose exponential is unbiased.

        Seats are drawn by exact densities, no memory is merged or dropped, and alpha is fixed or summed out.
        """
        is_exact = self.assignment_rule == "sample" and self.energy == "collapsed"
        is_whole = not self.tidy_every and not self.slots
        return is_exact and is_whole and (self.alpha_prior is None or self.is_filtered)

    def attributes(self) -> dict[str, Any]:
        """What a file keeps, as JSON has it: all but priors and known values, those of change where there is any."""
        values = self.as_dict() | {
            "family": self.family if isinstance(self.family, str) else self.family.signature,
            "rule": self.assignment_rule,
        }
        kept = {}
        for each in fields(self):
            if each.name not in ("prior", "known") and option_of(each).group not in _KEPT_WHERE_CHANGED:
                plain: Any = type(each.default)  # from a scalar of NumPy, say
                kept[each.name] = values[each.name] if each.default is None else plain(values[each.name])
        return kept | self.change_attributes()

    def change_attributes(self) -> dict[str, Any]:
        """The options of what changes along the stream that differ from their defaults, as JSON has them."""
        values = self.as_dict() | {"learn_alpha": self.alpha_prior, "learn_discount": self.discount_prior}
        described = [each for each in fields(self) if option_of(each).group in _KEPT_WHERE_CHANGED]
        return {
            each.name: values[each.name]
            for each in described
            if values[each.name] is not None and values[each.name] != each.default
        }


# --- checks of options that meet ------------------------------------------------------------------------------


def _check_process(options: StreamOptions) -> None:
    """The process of the weights, and what is learned of it."""
    from probam.inference.stream.decay import age_kernel
    from probam.inference.stream.hyper import check_learning
    from probam.inference.stream.weights import check_pitman_yor

    check_pitman_yor(options.alpha, options.discount)
    if options.half_life is not None:
        age_kernel(options.half_life, options.fading, options.fading_exponent)
        if not options.alpha > 0:
            raise InputError(
                f"alpha: it must be above 0 where counts fade, or no new memory could come; got {options.alpha}"
            )
    if options.alpha_prior is None:
        return
    check_learning(options.alpha_prior, options.discount_prior, options.learn_every)
    if options.half_life is not None or options.slots:
        raise InputError(
            "learn_alpha: the number of memories tells of alpha only where none fades or is dropped; leave out "
            f"{'half_life' if options.half_life is not None else 'slots'}"
        )


def _check_particles(options: StreamOptions) -> None:
    if options.resampling != "systematic" and options.particles == 1:
        raise InputError("resampling: one particle is never resampled; give more particles, or leave it out")
    if options.is_filtered and options.tidy_every:
        raise InputError("tidy_every: particles and rejuvenation merge and split memories themselves; leave it out")


def _check_tidying(options: StreamOptions) -> None:
    if options.prune_count and not options.tidy_every:
        raise InputError("prune_count: memories are pruned at intervals; say how often with tidy_every")


def _check_motion(options: StreamOptions) -> None:
    if options.drift > 0 and options.forget is not None:
        raise InputError("forget: a memory either drifts away or returns to the prior; give drift or forget, not both")
    if options.is_moving and options.energy != "collapsed":
        raise InputError(f"energy: memories that move have no known locations; use 'collapsed', not {options.energy!r}")


def _check_order_matters(options: StreamOptions) -> None:
    """Merging and reassigning need data whose order does not matter."""
    given = {
        "half_life": options.half_life is not None,
        "drift": options.drift > 0,
        "forget": options.forget is not None,
        "slots": options.slots > 0,
    }
    changes = " and ".join(name for name, is_given in given.items() if is_given)
    steps = {
        "tidy_every": (options.tidy_every, "memories are merged"),
        "rejuvenate_every": (options.rejuvenate_every, "rows are reassigned"),
    }
    for name, (interval, step) in steps.items():
        if changes and interval:
            raise InputError(
                f"{name}: {step} as if the order of the data did not matter, but with {changes} it does; leave out one "
                "or the other"
            )
