"""The sentence on the starts of a search counts kinds, and moves of the best end are no starts of their own."""

import json
from typing import Any

import numpy as np
import xarray as xr

from probam.inference.common.kinds import FRESH, MOVED
from probam.reports.summaries.agreement import agreement
from probam.reports.tree import build_tree

SEEDS, AGGLOMERATED, RANDOM, WARD = FRESH


def search(
    ends: list[float], kinds: list[str], mass: list[float] | None = None, rounds: list[int] | None = None
) -> xr.DataTree:
    """A search whose starts of these kinds ended there."""
    one = np.ones((1, 1))
    by_mass: dict[str, Any] = {} if mass is None else {"log_mass": (np.array(mass), ("restart",))}
    return build_tree(
        attributes={"probam_version": "0", "engine": "em"},
        data=np.zeros((3, 1)),
        columns=["a"],
        center=np.zeros(1),
        scale=np.ones(1),
        posterior={"beta": (one, ("chain", "draw"))},
        optimisation=by_mass
        | {
            "objective": (np.array(ends)[:, None], ("restart", "iteration")),
            "round": (np.array(rounds or [0] * len(ends)), ("restart",)),
        },
        group_attributes={
            "optimisation": {"what": "log likelihood"} | ({"restart_kind": json.dumps(kinds)} if kinds else {})
        },
    )


def sentence(
    ends: list[float], kinds: list[str], mass: list[float] | None = None, rounds: list[int] | None = None
) -> str:
    found = agreement(search(ends, kinds, mass, rounds))
    assert found is not None
    return found.sentence()


def test_agreement_is_counted_across_kinds() -> None:
    assert sentence([-5, -5, -7, -9], [SEEDS, AGGLOMERATED, RANDOM, WARD]) == (
        "2 of 4 starts reached the best log likelihood, by k-means++, agglomeration."
    )
    assert sentence([-5, -6, -7, -5], [SEEDS, AGGLOMERATED, RANDOM, SEEDS]) == (
        "2 of 4 starts reached the best log likelihood, all by k-means++."
    )
    assert sentence([-5, -6, -5], []) == "2 of 3 starts reached the best log likelihood."


def test_moves_that_return_to_the_best_end_are_no_agreement() -> None:
    assert sentence([-9, -5, -5, -5], [SEEDS, AGGLOMERATED, MOVED, MOVED]) == (
        "Only one of 2 starts (agglomeration) reached the best log likelihood; the next one is lower by 4. 2 moves "
        "that split and merge its memories found no better. A better optimum may exist: use more restarts."
    )
    assert sentence([-9, -9, -5, -7], [SEEDS, AGGLOMERATED, MOVED, MOVED]) == (
        "None of 2 starts reached the best log likelihood; moves that split and merge memories raised the best of them "
        "by 4. A better optimum may exist: use more restarts."
    )


def test_one_end_alone_is_no_agreement() -> None:
    assert agreement(search([-5.0], [SEEDS])) is None
    assert agreement(search([-5.0, np.nan], [SEEDS, AGGLOMERATED])) is None


def test_where_ends_are_compared_by_mass_the_height_does_not_count() -> None:
    kinds = [SEEDS, AGGLOMERATED, MOVED, MOVED]
    assert sentence([-5, -9, -9, -9], kinds, [-40, -20, -20, -20.05], [0, 0, 1, 1]) == (
        "Only one of 2 starts (agglomeration) reached the best posterior mass; the next one is lower by 20. 2 moves "
        "that split and merge its memories found no better."
    )


def test_moves_that_still_raised_the_mass_leave_a_doubt_and_those_that_did_not_leave_none() -> None:
    kinds = [SEEDS, AGGLOMERATED, MOVED, MOVED]
    raised = (
        "None of 2 starts reached the best posterior mass; moves that split and merge memories raised the best of them"
    )
    assert sentence([-5] * 4, kinds, [-40, -30, -20, -40], [0, 0, 1, 1]) == (
        f"{raised} by 10. A better optimum may exist: use more restarts."
    )
    assert sentence([-5] * 5, [*kinds, MOVED], [-40, -30, -20, -40, -20], [0, 0, 1, 1, 2]) == (
        f"{raised} by 10, until no move raised it further."
    )
