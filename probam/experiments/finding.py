"""What an experiment found: verdicts that rest on a number and its error, and notes.

One rule for all experiments: a verdict on a paper's statement has a number, an error over seeds or splits, and a
sentence on what would have shown the opposite. What has not is a note. :func:`judged` lets the number decide.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from probam.errors import InputError
from probam.reports.page import with_error

__all__ = ["Finding", "Measured", "Verdict", "judged", "mean_with_error", "over_repeats", "standard_errors"]

Verdict = Literal["agrees", "differs", "undecided", "note"]


class Measured(NamedTuple):
    """A number and its standard error.

    ``what`` says in words what the number is, ``over`` what the error is taken over ("ten sets of images"). An exact
    result has the error 0, and ``over`` says why ("all eight states were tried").
    """

    value: float
    error: float
    what: str
    over: str
    unit: str = ""

    def sentence(self) -> str:
        """The number, its error and what it is taken over, for readers."""
        shown = with_error(self.value, self.error)
        return f"{self.what}: {shown}{' ' + self.unit if self.unit else ''} ({self.over})."


@dataclass(frozen=True)
class Finding:
    """A sentence about the result, and what it says of the paper.

    ``agrees`` and ``differs`` need ``measured`` and ``opposite``, a sentence on what would have shown the opposite;
    ``undecided`` is for a number whose error leaves both open. Without a number a finding is a ``note``.

    Raises:
        InputError: for a verdict that has no finite number, no error or no sentence on the opposite.
    """

    text: str
    verdict: Verdict
    measured: Measured | None = None
    opposite: str = ""

    def __post_init__(self) -> None:
        if self.verdict == "note":
            return
        if self.measured is None or not self.opposite:
            raise InputError(
                f"finding: the verdict {self.verdict!r} needs a number with its error (measured) and a sentence on "
                f"what would have shown the opposite; without them it is a note: {self.text}"
            )
        if self.verdict != "undecided" and not _is_known(self.measured):
            raise InputError(f"finding: {self.verdict!r} needs a finite number and error; got {self.measured}")

    def record(self) -> dict[str, str | float | None]:
        """Flat, for JSON and CSV; None where a note has no number."""
        at = self.measured
        numbers = None if at is None else (at.value, at.error)
        value, error = (None, None) if numbers is None else (x if math.isfinite(x) else None for x in numbers)
        return {
            "verdict": self.verdict,
            "text": self.text,
            "value": value,
            "error": error,
            "unit": "" if at is None else at.unit,
            "what": "" if at is None else at.what,
            "over": "" if at is None else at.over,
            "opposite": self.opposite,
        }


def judged(text: str, measured: Measured, claimed: tuple[float, float], opposite: str) -> Finding:
    """A finding whose verdict follows from its number.

    It agrees where the number with two standard errors on either side lies in ``claimed``, differs where it lies
    outside, and is undecided where it reaches over an end or has no error.

    Args:
        text: the paper's statement and what was measured.
        measured: the number that decides.
        claimed: least and largest value that the paper's statement allows; may be infinite.
        opposite: a sentence on what would have shown the opposite.

    >>> def slope(error):
    ...     return judged("It falls.", Measured(-0.5, error, "slope", "3 seeds"), (-math.inf, 0), "A slope above 0.")
    >>> slope(0.1).verdict, slope(0.3).verdict
    ('agrees', 'undecided')
    """
    low, high = measured.value - 2 * measured.error, measured.value + 2 * measured.error
    if not _is_known(measured):
        verdict: Verdict = "undecided"
    elif claimed[0] <= low and high <= claimed[1]:
        verdict = "agrees"
    elif high < claimed[0] or low > claimed[1]:
        verdict = "differs"
    else:
        verdict = "undecided"
    return Finding(text, verdict, measured, opposite)


def over_repeats(values: Sequence[float] | np.ndarray, what: str, over: str, unit: str = "") -> Measured:
    """Mean of repeated measurements and its standard error; NaN as error of a single one.

    Args:
        values: one number a seed, split or network.
        what: what they are, in words.
        over: what they are repeated over; their number is put in front.
        unit: of the numbers.
    """
    at = np.asarray(values, float)
    error = float(at.std(ddof=1) / np.sqrt(at.size)) if at.size > 1 else math.nan
    return Measured(float(at.mean()), error, what, f"{at.size} {over}", unit)


def mean_with_error(values: ArrayLike) -> str:
    """Mean of repeated measurements and its standard error, for readers.

    >>> mean_with_error([1.0, 2.0, 3.0])
    '2.00 ± 0.58'
    """
    found = over_repeats(np.asarray(values), "", "")
    return with_error(found.value, found.error)


def standard_errors(values: xr.DataArray, over: str) -> xr.DataArray:
    """Standard errors of means over a dimension; NaN does not count."""
    errors: xr.DataArray = values.std(over, ddof=1) / np.sqrt(values.notnull().sum(over))
    return errors


def _is_known(measured: Measured) -> bool:
    return math.isfinite(measured.value) and math.isfinite(measured.error) and measured.error >= 0
