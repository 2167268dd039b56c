"""How many starts of a search reached its best end, and of how many kinds they are."""

import json
from typing import NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float, Int

from probam.reports.page import number
from probam.reports.summaries.quantities import last_values
from probam.reports.tree import has, variable

__all__ = ["Agreement", "agreement", "worth_of_ends"]

_MOVED = "split and merge"
"""Kind of the starts that split and merge memories of the best end of the others."""

_SAME_MASS = 0.1
"""Nats: ends whose mass differs by less are the same end."""


class Agreement(NamedTuple):
    """Starts that reached the best end, counted by kind; moves of the best end are no starts of their own."""

    what: str
    """By what ends are compared: the objective, or their mass."""
    num_starts: int
    reached: tuple[str, ...]
    """The kind of each start that reached the best end, empty words where kinds are not known."""
    gap: float
    """From the best end to the best of the starts that missed it, in the units of the objective."""
    num_moves: int
    settled: bool
    """Whether ends were compared by their mass, and a last round of moves found no better one."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """Different kinds among those that reached the best end."""
        return tuple(dict.fromkeys(kind for kind in self.reached if kind))

    def sentence(self) -> str:
        """In words."""
        by_moves = (
            f" {self.num_moves} moves that split and merge its memories found no better." if self.num_moves else ""
        )
        more = "" if self.settled else " A better optimum may exist: use more restarts."
        if not self.reached:
            last = ", until no move raised it further" if self.settled else ""
            return (
                f"None of {self.num_starts} starts reached the best {self.what}; moves that split and merge memories "
                f"raised the best of them by {number(self.gap, 3)}{last}.{more}"
            )
        if len(self.reached) == 1:
            own = f" ({self.kinds[0]})" if self.kinds else ""
            return (
                f"Only one of {self.num_starts} starts{own} reached the best {self.what}; the next one is lower by "
                f"{number(self.gap, 3)}.{by_moves}{more}"
            )
        kinds = ""
        if self.kinds:
            kinds = f", all by {self.kinds[0]}" if len(self.kinds) == 1 else f", by {', '.join(self.kinds)}"
        return f"{len(self.reached)} of {self.num_starts} starts reached the best {self.what}{kinds}.{by_moves}"


def agreement(tree: xr.DataTree) -> Agreement | None:
    """Of an optimiser's starts; None where there are not two, or none ended."""
    if not has(tree, "optimisation", "objective"):
        return None
    group = tree["optimisation"]
    worth, by_mass = worth_of_ends(tree), has(tree, "optimisation", "log_mass")
    kinds = json.loads(str(group.attrs.get("restart_kind") or "[]")) or [""] * len(worth)
    ended = np.isfinite(worth)
    is_move = np.array([kind == _MOVED for kind in kinds])
    if ended.sum() < 2:
        return None
    best = float(worth[ended].max())
    reached = worth >= best - (_SAME_MASS if by_mass else 1e-3 * max(1.0, abs(best) * 1e-2))
    return Agreement(
        what="posterior mass" if by_mass else str(group.attrs.get("what", "objective")),
        num_starts=int((ended & ~is_move).sum()),
        reached=tuple(str(kind) for kind, own in zip(kinds, reached & ~is_move, strict=True) if own),
        gap=_gap(worth, ended & ~is_move & ~reached, best),
        num_moves=int((ended & is_move).sum()),
        settled=by_mass and _is_settled(variable(tree, "optimisation", "round").values, reached),
    )


def worth_of_ends(tree: xr.DataTree) -> Float[np.ndarray, " R"]:
    """By what the ends of an optimiser's starts are compared: their mass where it is known, else the objective."""
    if has(tree, "optimisation", "log_mass"):
        return variable(tree, "optimisation", "log_mass").values.astype(np.float64)
    objective = variable(tree, "optimisation", "objective").transpose("restart", "iteration")
    return last_values(objective.values.astype(np.float64))


def _is_settled(rounds: Int[np.ndarray, " R"], reached: Bool[np.ndarray, " R"]) -> bool:
    """Whether the best end was reached before the last round of moves."""
    return bool(reached[rounds < rounds.max()].any())


def _gap(worth: Float[np.ndarray, " R"], missed: Bool[np.ndarray, " R"], best: float) -> float:
    return best - float(worth[missed].max()) if missed.any() else 0.0
