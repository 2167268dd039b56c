"""How many starts of a search reached its best end, and of how many kinds they are."""

import json
from typing import NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float

from probam.reports.page import number
from probam.reports.summaries.quantities import last_values
from probam.reports.tree import has

__all__ = ["Agreement", "agreement"]

_MOVED = "split and merge"
"""Kind of the starts that split and merge memories of the best end of the others."""


class Agreement(NamedTuple):
    """Starts that reached the best end, counted by kind; moves of the best end are no starts of their own."""

    num_starts: int
    reached: tuple[str, ...]
    """The kind of each start that reached the best end, empty words where kinds are not known."""
    gap: float
    """From the best end to the best of the starts that missed it, in the units of the objective."""
    num_moves: int

    @property
    def kinds(self) -> tuple[str, ...]:
        """Different kinds among those that reached the best end."""
        return tuple(dict.fromkeys(kind for kind in self.reached if kind))

    def sentence(self, what: str) -> str:
        """In words; ``what`` is the objective."""
        by_moves = (
            f" {self.num_moves} moves that split and merge its memories found no better." if self.num_moves else ""
        )
        more = "A better optimum may exist: use more restarts."
        if not self.reached:
            return (
                f"None of {self.num_starts} starts reached the best {what}; moves that split and merge memories raised "
                f"the best of them by {number(self.gap, 3)}. {more}"
            )
        if len(self.reached) == 1:
            own = f" ({self.kinds[0]})" if self.kinds else ""
            return (
                f"Only one of {self.num_starts} starts{own} reached the best {what}; the next one is lower by "
                f"{number(self.gap, 3)}.{by_moves} {more}"
            )
        kinds = ""
        if self.kinds:
            kinds = f", all by {self.kinds[0]}" if len(self.kinds) == 1 else f", by {', '.join(self.kinds)}"
        return f"{len(self.reached)} of {self.num_starts} starts reached the best {what}{kinds}.{by_moves}"


def agreement(tree: xr.DataTree) -> Agreement | None:
    """Of an optimiser's starts; None where there are not two, or none ended."""
    if not has(tree, "optimisation", "objective"):
        return None
    group = tree["optimisation"]
    last = last_values(group["objective"].transpose("restart", "iteration").values.astype(np.float64))
    kinds = json.loads(str(group.attrs.get("restart_kind") or "[]")) or [""] * len(last)
    ended = np.isfinite(last)
    is_move = np.array([kind == _MOVED for kind in kinds])
    if ended.sum() < 2:
        return None
    best = float(last[ended].max())
    reached = last >= best - 1e-3 * max(1.0, abs(best) * 1e-2)
    return Agreement(
        num_starts=int((ended & ~is_move).sum()),
        reached=tuple(str(kind) for kind, own in zip(kinds, reached & ~is_move, strict=True) if own),
        gap=_gap(last, ended & ~is_move & ~reached, best),
        num_moves=int((ended & is_move).sum()),
    )


def _gap(last: Float[np.ndarray, " R"], missed: Bool[np.ndarray, " R"], best: float) -> float:
    return best - float(last[missed].max()) if missed.any() else 0.0
