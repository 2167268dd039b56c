"""The sentence on the starts of a search counts kinds, and moves of the best end are no starts of their own."""

import json

import numpy as np
import xarray as xr

from probam.inference.common.kinds import FRESH, MOVED
from probam.reports.summaries.agreement import agreement
from probam.reports.tree import build_tree

SEEDS, AGGLOMERATED, RANDOM, WARD = FRESH


def search(ends: list[float], kinds: list[str]) -> xr.DataTree:
    """A search whose starts of these kinds ended there."""
    one = np.ones((1, 1))
    return build_tree(
        attributes={"probam_version": "0", "engine": "em"},
        data=np.zeros((3, 1)),
        columns=["a"],
        center=np.zeros(1),
        scale=np.ones(1),
        posterior={"beta": (one, ("chain", "draw"))},
        optimisation={"objective": (np.array(ends)[:, None], ("restart", "iteration"))},
        group_attributes={"optimisation": {"restart_kind": json.dumps(kinds)} if kinds else {}},
    )


def sentence(ends: list[float], kinds: list[str]) -> str:
    found = agreement(search(ends, kinds))
    assert found is not None
    return found.sentence("log likelihood")


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
