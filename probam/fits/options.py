"""The options of a fit: each one named once, for ``probam.fit``, for the flags of ``probam fit`` and for the file.

What an engine takes beside these stands in the signature of its ``run`` (:func:`probam.fits.choices.find_engine`).
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probam.errors import InputError, shown
from probam.options import (
    Options,
    boolean,
    file_path,
    memory_size,
    number,
    one_of,
    option,
    optional,
    whole_number,
    whole_number_in,
    word,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import ArrayLike
    from numpyro.distributions import Distribution

    from probam.family import Family
    from probam.inference.common.progress import Listener

__all__ = ["ENGINES", "SEEDS", "TAKE_BLOCKS", "TAKE_MISSING", "FitOptions", "family_or_name"]

ENGINES = ("em", "gradient_em", "clam", "svi", "cavi", "nuts", "gibbs", "smc")

TAKE_MISSING = ("em", "gradient_em", "svi", "cavi", "nuts", "gibbs", "smc")
"""Engines that were proved on data with missing entries."""

_TAKE_WEIGHTS = ("em", "gradient_em", "svi", "cavi", "nuts", "smc")
"""Engines whose likelihood takes weights of the data."""

_TAKE_LABELS = ("em", "gradient_em", "svi", "cavi", "nuts", "gibbs", "smc")
"""Engines that hold rows to the memories that they are known to belong to."""

TAKE_BLOCKS = ("em", "gradient_em", "cavi", "svi")
"""Engines that go through data larger than memory in blocks."""

_MODEL, _ENGINE, _DATA = "Model", "Engine", "Data"

SEEDS = whole_number_in("a whole number from 0 to 2^32 - 1", 0, 2**32 - 1)


# --- checks of one value --------------------------------------------------------------------------------------


def family_or_name(name: str, value: Any) -> None:
    """The value is a Family, or text that may name one."""
    if isinstance(value, str):
        return
    from probam.family import Family

    if not isinstance(value, Family):
        raise InputError(f"{name}: expected the name of a family, FILE.py:Name or a Family; got {shown(value)}")


def _names(name: str, value: Any) -> None:
    if not isinstance(value, str) and not hasattr(value, "__iter__"):
        raise InputError(f"{name}: expected a list of names; got {shown(value)}")


def _number_or_prior(name: str, value: Any) -> None:
    try:
        number()(name, value)
    except InputError as error:
        from numpyro.distributions import Distribution

        if not isinstance(value, Distribution):
            raise InputError(
                f"{name}: expected a number, or a NumPyro distribution as its prior; got {shown(value)}"
            ) from error


def _numbers(name: str, value: Any) -> None:
    try:
        if isinstance(value, str):
            raise TypeError
        for each in value:
            number()(name, each)
    except (TypeError, InputError) as error:
        raise InputError(f"{name}: expected a number for each memory; got {shown(value)}") from error


def _priors(name: str, value: Any) -> None:
    from numpyro.distributions import Distribution

    if not isinstance(value, Mapping) or not all(isinstance(law, Distribution) for law in value.values()):
        raise InputError(f"{name}: expected a mapping from sites to NumPyro distributions; got {shown(value)}")


def _listener(name: str, value: Any) -> None:
    try:
        inspect.signature(value).bind(None)
    except TypeError as error:
        raise InputError(
            f"{name}: expected a function of one argument, a probam.Progress; got {shown(value)}"
        ) from error
    except ValueError:  # a built-in function does not say what it takes
        return


def _numbers_in(text: str) -> list[float]:
    """Numbers separated by commas, as the command line has them."""
    try:
        return [float(word) for word in text.split(",")]
    except ValueError as error:
        raise InputError(f"given-weights: expected numbers separated by commas; got {text!r}") from error


def _priors_of_text(texts: list[str]) -> dict[str, Distribution] | None:
    """Priors as the command line has them; None where none was given."""
    from probam.fits.prior_text import priors_of_text

    return priors_of_text(texts) if texts else None


# --- the options ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class FitOptions(Options):
    """Options of a fit. Those of an engine are None where the engine's own default holds."""

    family: str | Family = option(
        "gaussian",
        help="What a memory is: gaussian (points in space), vmf (directions: rows of length one), another known family "
        "(laplace, student_t, generalized_normal, bernoulli, ...; options follow the name, as in student_t,df=4), or a "
        "family of your own as FILE.py:Name or package.module:Name, whose code is executed (in Python also a Family "
        "object).",
        group=_MODEL,
        check=family_or_name,
        flag=str,
    )
    covariance: str | None = option(
        None,
        help="Shape of a Gaussian memory: isotropic (one width for all: the energy of the associative memory), "
        "spherical (a width each), diagonal (a width for each column), tied (one tilted ellipse for all), full (a "
        "tilted ellipse each) or lkj (full, with an LKJ prior).",
        group=_MODEL,
        check=optional(word),
        flag=str | None,
        metavar="KIND",
    )
    weights: str = option(
        "dp",
        help="How popular memories may be: dp (Dirichlet process) and pyp (Pitman-Yor process, which keeps more small "
        "memories) let the data choose how many are used; dirichlet, uniform and fixed use a given number of them.",
        group=_MODEL,
        check=word,
        flag=str,
        metavar="LAW",
    )
    components: int | np.integer[Any] | None = option(
        None,
        help="Number of memories; required except for dp and pyp, where it is the largest number possible (20 by "
        "default): a larger one is slower and closer to the infinite process.",
        group=_MODEL,
        check=optional(whole_number(least=1)),
        flag=int | None,
        metavar="K",
    )
    alpha: float | Distribution | None = option(
        None,
        help="Strength of dp and pyp, or concentration of dirichlet; a larger value expects more memories in use. A "
        "number fixes it, a distribution is its prior. By default dp and pyp learn it, dirichlet has 1.",
        group=_MODEL,
        check=optional(_number_or_prior),
        flag=float | None,
        flag_help="Strength of dp and pyp (learned from the data by default), or concentration of dirichlet (1 by "
        "default); a larger value expects more memories in use.",
        metavar="A",
    )
    discount: float | Distribution | None = option(
        None,
        help="Discount of pyp, in [0, 1): a value nearer to 1 expects a longer tail of small memories. A number fixes "
        "it, a distribution is its prior; learned by default.",
        group=_MODEL,
        check=optional(_number_or_prior),
        flag=float | None,
        flag_help="Discount of pyp, in [0, 1): a value nearer to 1 expects a longer tail of small memories. Learned "
        "from the data by default.",
        metavar="D",
    )
    given_weights: Sequence[float] | None = option(
        None,
        help="The weight of each memory, for weights fixed; they are normalised to sum to one.",
        group=_MODEL,
        check=optional(_numbers),
        flag=str | None,
        metavar="W,W,...",
        parse=_numbers_in,
    )
    engine: str | None = option(
        None,
        help="gibbs, nuts and smc sample the posterior (slow, honest; smc also finds the evidence); svi and cavi "
        "approximate it (fast, too sure of themselves); em and gradient_em find one best setting (fastest, no error "
        "bars): the maximum a posteriori under the default prior, or by --estimate ml (em only) the maximum of the "
        "likelihood; clam finds the memories of least recall error. By default gibbs, for families whose memories it "
        "can draw exactly, and nuts for others and for weighted rows.",
        group=_ENGINE,
        check=optional(one_of(*ENGINES)),
        flag=str | None,
    )
    estimate: str | None = option(
        None,
        help="What em maximises: map (the default) the posterior density, likelihood times prior; ml the likelihood "
        "alone (not with dp and pyp). gradient_em has map only.",
        group=_ENGINE,
        check=optional(one_of("map", "ml")),
        flag=str | None,
        metavar="map|ml",
    )
    seed: int | np.integer[Any] = option(
        0, help="The same seed gives the same bits on the same machine.", group=_ENGINE, check=SEEDS, flag=int
    )
    standardise: bool = option(
        False,
        help="Fit (x - mean) / sd, for columns in different units; results stay in the units of the data.",
        group=_DATA,
        check=boolean,
        flag=bool,
    )
    normalise: bool = option(
        False,
        help="Divide each row by its length, for family vmf; so are the rows of every question to the fit.",
        group=_DATA,
        check=boolean,
        flag=bool,
    )
    columns: Sequence[str] | None = option(
        None,
        help="Use only these columns, in this order; the others may hold text.",
        group=_DATA,
        check=optional(_names),
        flag=list[str] | None,
        metavar="A,B,...",
    )
    drop: Sequence[str] | None = option(
        None,
        help="Leave these columns out; they may hold text.",
        group=_DATA,
        check=optional(_names),
        flag=list[str] | None,
        flag_help="Leave this column out; it may hold text. Give it again for more columns, or A,B,...",
        metavar="COLUMN",
    )
    variable: str | None = option(
        None,
        help="Which array of an NPZ, NetCDF or Zarr file to use.",
        group=_DATA,
        check=optional(word),
        flag=str | None,
        metavar="NAME",
    )
    prior: Mapping[str, Distribution] | None = option(
        None,
        help="NumPyro distributions that replace the default priors of the family's sites, by site; one of a single "
        "number stands for every entry of its site.",
        group=_MODEL,
        check=optional(_priors),
        flag=list[str] | None,
        flag_help="A prior in place of the default one of a site, as in 'loc=Normal(0, 10)' or 'beta=Gamma(2, 0.5)': "
        "a distribution of NumPyro with numbers, which stands for every entry of the site. May be given for several "
        "sites.",
        metavar="SITE=LAW",
        parse=_priors_of_text,
    )
    missing: bool = option(
        False,
        help="Allow missing entries (NaN), which are taken to be missing at random: a row counts with the density of "
        "its other entries (families gaussian and bernoulli, all engines but clam).",
        group=_DATA,
        check=boolean,
        flag=bool,
    )
    sample_weight: ArrayLike | None = option(
        None,
        help="How often each datum counts: (N,) numbers of at least 0. The log likelihood is sum_n w_n log p(x_n). "
        "These are not the weights of the memories. Of several processes that have rows of their own, those of the "
        f"rows of this one. Engines {', '.join(_TAKE_WEIGHTS)}.",
        group=_DATA,
        flag=str | None,
        flag_help=f"A column that says how often each row counts (engines {', '.join(_TAKE_WEIGHTS)}).",
        metavar="COLUMN",
    )
    memory: str | int | None = option(
        None,
        help="Most memory for the data and what the fit makes of them, as 1GiB, 500MB or bytes. Data that need more "
        f"are read in blocks, again at each pass (engines {', '.join(TAKE_BLOCKS)}); the fit then holds a random "
        "sample of their rows.",
        group=_DATA,
        check=optional(memory_size),
        flag=str | None,
        metavar="SIZE",
    )
    distributed: bool = option(
        False,
        help="This is one of several processes of one fit, on one or many machines, connected by "
        "jax.distributed.initialize: each reads its own rows, and the first writes the file. {process} in a path "
        "stands for the number of a process; of a path without it each reads its share; an array is the rows of this "
        f"process (engines {', '.join(TAKE_BLOCKS)}).",
        group=_DATA,
        check=boolean,
        flag=bool,
        flag_help="This is one of several processes of one fit, on one or many machines, as Slurm, Open MPI or "
        "Kubernetes start them: each reads its own rows, and the first writes the file and prints. {process} in DATA "
        "stands for the number of a process; of a file without it each reads its share "
        f"(engines {', '.join(TAKE_BLOCKS)}).",
    )
    output: str | os.PathLike[str] | None = option(
        None,
        help="Write the fit to this file (NetCDF) as soon as the engine ends, and again, whole, when all that follows "
        "from the posterior is computed. A file that was cut off between is completed by probam.load.",
        check=optional(file_path),
    )
    complete: bool = option(
        False,
        help="Also compute what is otherwise computed when it is asked for, and write it into the file: recall (the "
        "energy landscape and what recall does under the posterior) and the verification of the energy.",
        check=boolean,
        flag=bool,
    )
    labels: ArrayLike | None = option(
        None,
        help="Memories that are known for some rows: (N,) whole numbers from 0 to K - 1, -1 where a row's memory is "
        "not known; or (N, K) booleans that say to which memories a row may belong. Memory k of the fit is then label "
        f"k. Engines {', '.join(_TAKE_LABELS)}.",
    )
    progress: Listener | None = option(
        None,
        help="Called with a probam.Progress (done, total, text, values) as the fit goes on; it may raise probam.Stop "
        "to end the fit with what is there.",
        check=optional(_listener),
    )
    num_warmup: int | None = option(
        None,
        help="nuts, gibbs: steps of each chain that are dropped; nuts adapts itself in them.",
        group=_ENGINE,
        flag=int | None,
        metavar="N",
    )
    num_draws: int | None = option(
        None,
        help="nuts, gibbs (of each chain), svi, cavi: draws to keep; more make errors smaller. Where none are asked "
        "for, gibbs runs until its chains agree, or for a minute or two.",
        group=_ENGINE,
        flag=int | None,
        metavar="N",
    )
    num_chains: int | None = option(
        None,
        help="nuts, gibbs, smc: independent chains; with one alone nothing shows whether it converged.",
        group=_ENGINE,
        flag=int | None,
        metavar="N",
    )
    checkpoint: str | os.PathLike[str] | None = option(
        None,
        help="em, gradient_em, clam, svi, cavi, nuts, gibbs, smc: write the run to this file every few seconds. The "
        "same call goes on from there to the same result. The version before is kept as FILE.previous. Of several "
        "processes the first has the file.",
        group=_ENGINE,
        flag=Path | None,
        metavar="FILE",
        parse=str,
    )
    num_steps: int | None = option(
        None,
        help="svi: optimisation steps; clam: steps of recall through which it learns.",
        group=_ENGINE,
        flag=int | None,
        metavar="N",
    )
    restarts: int | None = option(
        None,
        help="em, gradient_em, clam, svi, cavi: independent starts, of which the best is kept; more miss less.",
        group=_ENGINE,
        flag=int | None,
        metavar="N",
    )

    def check_together(self) -> None:
        """Refuse missing entries and estimates that the engine does not have, and rows of no length."""
        if self.estimate is not None and self.engine != "em":
            engine = "the default engine" if self.engine is None else f"engine {self.engine!r}"
            raise InputError(
                f"estimate: only engine 'em' has a choice; got {self.estimate!r} with {engine}; leave it out, or use "
                "engine 'em'"
            )
        if self.missing and self.engine not in (None, *TAKE_MISSING):
            raise InputError(
                f"missing: engine {self.engine!r} does not integrate missing entries out; use one of "
                f"{', '.join(TAKE_MISSING)}"
            )
        if self.missing and self.normalise:
            raise InputError("normalise: a row with missing entries has no length; leave out normalise or missing")
        if self.distributed:
            self.check_blocks("distributed: each process reads its own rows in blocks")
        self._check_known_rows()

    def check_blocks(self, text: str) -> None:
        """Refuse what needs all rows at once where these are read in blocks.

        Args:
            text: why they are, in words.
        """
        if self.engine not in TAKE_BLOCKS:
            engine = "the default engine" if self.engine is None else f"engine {self.engine!r}"
            others = "" if self.distributed else ", a stream (`probam stream`), more memory, or a sample of the rows"
            raise InputError(f"{text}; {engine} needs all rows at once: use engine {', '.join(TAKE_BLOCKS)}{others}")
        for name in ("labels", "missing"):
            given = getattr(self, name)
            if given is not None and given is not False:
                others = "" if self.distributed else ", or give more memory"
                raise InputError(f"{text}; {name} needs all rows at once: leave it out{others}")

    def _check_known_rows(self) -> None:
        """Refuse weights of the data and known labels where the engine does not take them."""
        if self.sample_weight is not None and self.engine not in (None, *_TAKE_WEIGHTS):
            raise InputError(
                f"sample_weight: engine {self.engine!r} has no likelihood that takes weights of the data; use one of "
                f"{', '.join(_TAKE_WEIGHTS)}, or repeat the rows"
            )
        if self.labels is not None and self.engine not in (None, *_TAKE_LABELS):
            raise InputError(
                f"labels: engine {self.engine!r} does not hold rows to known memories; use one of "
                f"{', '.join(_TAKE_LABELS)}"
            )

    @property
    def of_engine(self) -> dict[str, Any]:
        """Options for the engine that were given: name -> value."""
        names = ("estimate", "num_warmup", "num_draws", "num_chains", "checkpoint", "num_steps", "restarts")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}
