"""Does a fit reproduce its data? What its file says of the data against replicated data, in words."""

import json
from typing import NamedTuple

import numpy as np
import xarray as xr

from probam.reports.page import count, number
from probam.reports.summaries.discrepancies import ASPECTS
from probam.reports.tree import has, variable

__all__ = ["FALSE_ALARM", "Reproduction", "reproduction"]

FALSE_ALARM = 0.01
"""A fit does not reproduce its data where p is below it: so often at most a right model is blamed (measured by
``python -m benchmarks.verdicts``, docs/validation.md)."""

_NAMED = 3


class Reproduction(NamedTuple):
    """The data against data replicated by the fit."""

    p_value: float
    looked_at: tuple[str, ...]
    """Aspects in words."""
    farthest: tuple[tuple[str, float], ...]
    """Discrepancies that deviate most, each with its deviation in standard deviations of the replicates."""
    num_replicates: int
    num_rows: int
    num_features: int

    @property
    def is_reproduced(self) -> bool:
        """Whether the data do not deviate more than their replicates do."""
        return self.p_value >= FALSE_ALARM

    @property
    def what(self) -> str:
        """What was looked at, and in how many rows and features."""
        size = f"{count(self.num_rows)} rows" + (f" and {self.num_features} features" if self.num_features > 1 else "")
        return f"{', '.join(self.looked_at[:-1])} and {self.looked_at[-1]} ({size})"

    @property
    def where(self) -> str:
        """The discrepancies that deviate most."""
        return ", ".join(
            f"{name} ({number(abs(z), 2)} sd too {'large' if z > 0 else 'small'})" for name, z in self.farthest
        )


def reproduction(tree: xr.DataTree) -> Reproduction | None:
    """The group ``predictive_check`` of a fit; None where it has none."""
    if not has(tree, "predictive_check", "deviation"):
        return None
    group = tree["predictive_check"]
    names, deviation = (variable(tree, "predictive_check", name).values for name in ("discrepancy", "deviation"))
    order = np.argsort(-np.abs(deviation), kind="stable")[:_NAMED]
    return Reproduction(
        float(group.attrs["p_value"]),
        tuple(ASPECTS[aspect] for aspect in json.loads(str(group.attrs["looked_at"]))),
        tuple((str(names[at]), float(deviation[at])) for at in order),
        *(int(group.attrs[name]) for name in ("num_replicates", "num_rows", "num_features")),
    )
