"""What a verdict on a fit is made of: facts that are read from its file, and rules that judge them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import pandas as pd
import xarray as xr

from probam.reports.summaries.quantities import EngineKind, InvariantDraws

__all__ = ["Advice", "Facts", "Finding", "Level", "Rule", "verdict_of"]

Level = Literal["problem", "warning", "note", "good"]


@dataclass(frozen=True)
class Advice:
    """One sentence of a verdict: ``good``, ``note`` (know it), ``warning`` (caution) or ``problem`` (do not trust yet).

    Attributes:
        level: how grave it is.
        text: what was found and what to do.
        rule: name of the rule that found it; empty for the sentence on a fit in which no rule found a fault.
    """

    level: Level
    text: str
    rule: str = ""


def verdict_of(said: list[Advice]) -> Level:
    """The verdict in one word: that of the gravest sentence, ``good`` where there are only notes beside it."""
    return next((item.level for item in said if item.level in ("problem", "warning")), "good")


class Facts(NamedTuple):
    """What rules judge: the file of a fit, and its label-invariant draws with their summary."""

    tree: xr.DataTree
    kind: EngineKind
    draws: InvariantDraws
    summary: pd.DataFrame  # of these draws: one row a quantity


class Finding(NamedTuple):
    """What a rule has to say."""

    level: Level
    text: str


@dataclass(frozen=True)
class Rule:
    """One rule of the verdict.

    Attributes:
        name: a few words, as in the documentation.
        reads: what it looks at.
        bar: when it speaks, and where there are two levels, when it speaks of a problem.
        levels: the levels that it can give.
        find: what it finds; nothing where the file lacks what it looks at.
        kinds: engines whose fits it judges.
    """

    name: str
    reads: str
    bar: str
    levels: tuple[Level, ...]
    find: Callable[[Facts], Iterator[Finding]]
    kinds: tuple[EngineKind, ...] = get_args(EngineKind)

    def judge(self, facts: Facts) -> list[Advice]:
        """What the rule says of a fit."""
        if facts.kind not in self.kinds:
            return []
        return [Advice(finding.level, finding.text, self.name) for finding in self.find(facts)]
