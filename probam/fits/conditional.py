r"""The distribution of some features given others under a fit: regression, classification and imputation.

Given x the targets y are distributed as the mixture

.. math::
    p(y \mid x, \text{data}) = \sum_s \sum_k r_{sk}(x)\, p_{sk}(y \mid x), \qquad
    r_{sk}(x) \propto w_{sk}\, p_{sk}(x)

over S draws of the posterior and K memories. Its mean, density and draws are exact, and quantiles are found by
inverting its cumulative distribution function. Entries of x that are missing are integrated out.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Array, Float, Int

import probam.fits.conditional_posterior as posterior
from probam.data.standardise import Standardiser
from probam.data.table import Table, as_table
from probam.errors import InputError, RowError, shown
from probam.family import Params
from probam.family.capabilities import DataSpace
from probam.fits.landscape_posterior import completion
from probam.fits.options import SEEDS
from probam.models.mixture import Mixture
from probam.options import whole_number
from probam.reports.summaries.quantities import evenly

__all__ = ["ConditionalDistribution", "Question", "rows_given"]

LEVELS = (0.05, 0.5, 0.95)
"""Quantiles where none are named."""

_RECALL_DRAWS = 50
"""Most draws under which recall is run."""


# --- what is asked --------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Question:
    """Features to tell, and rows of what is known: NaN where an entry is to be told or integrated out."""

    target: tuple[str, ...]
    columns: tuple[str, ...]
    """All features of the fit."""
    values: Float[np.ndarray, "N D"]
    """Data units."""
    first_row: int = 0
    """Number of the first row, where these are a part of the rows."""

    @property
    def positions(self) -> Int[np.ndarray, " T"]:
        """Where the targets stand among the features."""
        return np.array([self.columns.index(name) for name in self.target])

    def labelled(self, name: str, values: Float[np.ndarray, "*lead N D"], **lead: np.ndarray) -> xr.DataArray:
        """The targets' columns of an array over rows and features, with names for its dimensions.

        Args:
            name: of the result.
            values: one number for each row and feature.
            lead: name and labels of the dimension before them, if there is one.
        """
        return xr.DataArray(
            values[..., self.positions],
            {**lead, "datum": np.arange(len(self.values)), "feature": list(self.target)},
            [*lead, "datum", "feature"],
            name,
        )


def rows_given(
    target: str | Sequence[str] | None, given: Any, columns: tuple[str, ...], dtype: np.dtype[Any]
) -> Question:
    """The question that :meth:`probam.fits.fitted.Fit.conditional` is asked.

    Args:
        target: features to tell; None: those that rows lack.
        given: what is known.
        columns: all features of the fit.
        dtype: of the fit.

    Raises:
        InputError: for targets that are no features, and for other rows than of the other features.
    """
    if target is None:
        table = as_table(given, features=columns, name="given", missing=True)
        values = table.values.astype(dtype)
        lacking = np.isnan(values).any(axis=0)
        if not lacking.any():
            raise InputError("given: no entry is missing (NaN), so there is nothing to tell; name the target instead")
        names = tuple(name for name, lacks in zip(columns, lacking, strict=True) if lacks)
        return Question(names, columns, values, table.first_row)
    named = _targets(target, columns)
    others = [name for name in columns if name not in named]
    table = as_table(_widened(given, others, named), features=others, name="given", missing=True)
    values = np.full((table.num_data, len(columns)), np.nan, dtype)
    values[:, [columns.index(name) for name in others]] = table.values
    return Question(named, columns, values, table.first_row)


def _targets(target: str | Sequence[str], columns: tuple[str, ...]) -> tuple[str, ...]:
    if not isinstance(target, str | Iterable):
        raise InputError(f"target: expected the name of a feature, or several; got {shown(target)}")
    names = (target,) if isinstance(target, str) else tuple(target)
    has = ", ".join(columns)
    if not names or len(set(names)) < len(names):
        raise InputError(f"target: expected names of features, each once; got {names}; the fit has {has}")
    for name in names:
        if name not in columns:
            raise InputError(f"target: the fit has no feature {name!r}; it has {has}")
    if len(names) == len(columns):
        raise InputError(
            "target: these are all features of the fit, so that none is given; use the fit's own sample and log_prob"
        )
    return names


def _widened(given: Any, others: Sequence[str], target: Sequence[str]) -> Any:
    """Named columns that are some of the other features, with columns of missing entries for the rest of them."""
    if isinstance(given, dict):
        are_numbers = all(np.ndim(value) == 0 for value in given.values())
        try:
            given = pd.DataFrame(given, index=[0] if are_numbers else None)
        except ValueError as error:
            raise InputError("given: expected as many values of one feature as of every other") from error
    elif isinstance(given, Table) and given.named:
        given = given.frame()
    if not isinstance(given, pd.DataFrame):
        return given
    names = set(given.columns)
    return given.reindex(columns=list(others)) if names <= {*others, *target} and names & {*others} else given


# --- the answer -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ConditionalDistribution:
    """The distribution of some features given others, one for each row; ``Fit.conditional`` makes it.

    Results have the dimensions ``datum`` (rows) and ``feature`` (targets), after ``quantile`` or ``draw``, and the
    units of the data. A target that is known in a row has its value there, without spread.

    Attributes:
        question: the targets, and what is given.
        model: the program that was fitted.
        sites: site values of the draws that count.
        units: between the units of the data and those of the model.
        span: least and greatest value of each feature of the fitted data, model units.
        mean: expected values (datum, feature); infinite where tails are too heavy for one.
        sd: standard deviations (datum, feature); infinite where tails are too heavy for one.
    """

    question: Question
    model: Mixture
    sites: Params
    units: Standardiser
    span: Float[np.ndarray, "2 D"]
    mean: xr.DataArray
    sd: xr.DataArray

    @classmethod
    def of(
        cls, question: Question, model: Mixture, sites: Params, units: Standardiser, span: Float[np.ndarray, "2 D"]
    ) -> "ConditionalDistribution":
        """The distribution that answers a question; the arguments are the attributes.

        Raises :class:`probam.errors.InputError` for rows outside the support, rows of density 0 and families without an
        exact conditional.
        """
        DataSpace.of(model.family).check_support(question.values, question.columns)
        x = _model_units(question.values, units)
        log_marginal, mean, variance = map(np.asarray, posterior.moments(model, sites, x))
        nowhere = ~np.isfinite(log_marginal)
        if nowhere.any():
            raise RowError(
                f"given: {nowhere.sum()} of {len(nowhere)} rows have density 0 under every memory, the first is ",
                np.flatnonzero(nowhere)[0],
                "; nothing follows from them; leave these rows out",
            )
        mean = np.where(np.isnan(question.values), units.invert(mean), question.values)
        sd = np.sqrt(variance) * units.scale
        return cls(question, model, sites, units, span, question.labelled("mean", mean), question.labelled("sd", sd))

    def __repr__(self) -> str:
        of = ", ".join(self.question.target)
        return f"<probam.ConditionalDistribution of {of}: {len(self.question.values)} rows, {self.num_draws} draws>"

    @property
    def num_draws(self) -> int:
        """S, the draws of the posterior that count."""
        return len(next(iter(self.sites.values())))

    @property
    def _x(self) -> Float[Array, "N D"]:
        return _model_units(self.question.values, self.units)

    def _in_data_units(self, name: str, values: Any, **lead: np.ndarray) -> xr.DataArray:
        """Values in model units as they are shown: what is given keeps its bits."""
        given = self.question.values
        return self.question.labelled(
            name, np.where(np.isnan(given), self.units.invert(np.asarray(values)), given), **lead
        )

    def quantile(self, levels: float | Sequence[float] = LEVELS) -> xr.DataArray:
        """Quantiles (quantile, datum, feature) of each target alone: the least values with at least this probability.

        Args:
            levels: probabilities between 0 and 1.

        Raises :class:`probam.errors.InputError` for families whose cumulative distribution function is not known.
        """
        asked = _checked_levels(levels, self.span.dtype)
        at = tuple(self.question.positions.tolist())
        found = posterior.quantiles(
            self.model, self.sites, self._x, jnp.asarray(asked, self.span.dtype), self.span, features=at
        )
        wide = np.full((len(asked), *self.question.values.shape), np.nan, self.span.dtype)
        wide[..., at] = found
        return self._in_data_units("quantiles", wide, quantile=asked)

    def log_prob(self, data: Any) -> xr.DataArray:
        """Log density (datum,) of the targets together, nats, with respect to the units of the data.

        Args:
            data: a value of each target for each row, or anything that ``probam.fit`` reads with columns of their
                names. Missing ones (NaN) are integrated out; where a row gives the value of a target, that one counts.
        """
        given, at = self.question.values, self.question.positions
        if (
            len(at) == 1
            and isinstance(data, np.ndarray | Sequence)
            and np.ndim(data) == 1
            and not isinstance(data, str)
        ):
            data = np.asarray(data)[:, None]
        table = as_table(data, features=self.question.target, name="data", missing=True)
        if table.num_data != len(given):
            raise InputError(f"data: expected {len(given)} rows, one for each row given; got {table.num_data}")
        both = given.copy()
        both[:, at] = np.where(np.isnan(given[:, at]), table.values, given[:, at])
        DataSpace.of(self.model.family).check_support(both, self.question.columns)
        log_density = posterior.log_density(self.model, self.sites, self._x, _model_units(both, self.units))
        jacobian = self.units.log_jacobians(both) - self.units.log_jacobians(given)
        return xr.DataArray(
            np.asarray(log_density) + jacobian, {"datum": np.arange(len(given))}, ["datum"], name="log_prob"
        )

    def sample(self, num_draws: int, *, seed: int = 0) -> xr.DataArray:
        """Draws (draw, datum, feature) of the targets together; the same seed gives the same bits."""
        whole_number(least=1)("num_draws", num_draws)
        SEEDS("seed", seed)
        first, key = jnp.asarray(self.question.first_row), jax.random.key(seed)
        drawn = posterior.draws(self.model, self.sites, key, self._x, first, num_draws=int(num_draws))
        return self._in_data_units("sample", drawn, draw=np.arange(num_draws))

    def recall(self, *, max_steps: int = 500) -> xr.Dataset:
        """What the memory recalls: where descent on the energy ends when all that is given stays fixed.

        Args:
            max_steps: most steps of a descent.

        Returns:
            ``recall`` (datum, feature), the mean over at most 50 draws, weighted by the density of what is given;
            ``recall_sd``, its spread over them; ``recall_converged`` (datum), the share of draws in which descent came
            to rest.

        Raises :class:`probam.errors.InputError` for families without recall or without a finite mean.
        """
        whole_number(least=1)("max_steps", max_steps)
        which = evenly(self.num_draws, _RECALL_DRAWS)
        chosen = {name: value[which] for name, value in self.sites.items()}
        completed = completion(self.model, chosen, np.asarray(self._x), max_steps=max_steps)
        of = completed.pooled()
        return xr.Dataset(
            {
                "recall": self._in_data_units("recall", of["descent"]),
                "recall_sd": self.question.labelled("recall_sd", of["descent_sd"] * self.units.scale),
                "recall_converged": ("datum", completed.converged.mean(axis=0)),
            }
        )

    def to_dataset(self, levels: float | Sequence[float] = LEVELS) -> xr.Dataset:
        """``mean``, ``sd``, ``quantiles`` and, beside them, ``recall``, ``recall_sd`` and ``recall_converged``.

        Where a family has no quantiles or no recall, the attribute ``no_quantiles`` or ``no_recall`` says why.

        Args:
            levels: of the quantiles.
        """
        _checked_levels(levels, self.span.dtype)
        result = xr.Dataset({"mean": self.mean, "sd": self.sd}, attrs={"num_draws": self.num_draws})
        answers: dict[str, Callable[[], Any]] = {"quantiles": lambda: self.quantile(levels), "recall": self.recall}
        for name, answer in answers.items():
            try:
                result = result.merge(answer())
            except InputError as error:
                result.attrs[f"no_{name}"] = str(error)
        return result


def _checked_levels(levels: float | Sequence[float], dtype: np.dtype[Any]) -> Float[np.ndarray, " Q"]:
    """Probabilities as an array."""
    asked = np.atleast_1d(np.asarray(levels, float))
    least = 4 * float(np.finfo(dtype).eps)
    if asked.ndim > 1 or not asked.size or not np.all((asked >= least) & (asked <= 1 - least)):
        raise InputError(f"levels: expected probabilities between 0 and 1; got {shown(levels)}")
    return asked


def _model_units(values: Float[np.ndarray, "N D"], units: Standardiser) -> Float[Array, "N D"]:
    return jnp.asarray(units.apply(values), values.dtype)
