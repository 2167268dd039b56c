"""Agreement of two groupings, and their table, against scikit-learn, definitions and enumeration."""

import itertools
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix

from probam.errors import InputError
from probam.reports.summaries.contingency import agreement, agreement_of, contingency


def test_agreement_is_counted_over_pairs_and_over_cells() -> None:
    """Adjusted Rand index (Hubert & Arabie 1985) and 2 I / (H + H), from their definitions."""
    rng = np.random.default_rng(3)
    labels, memories = rng.choice(["ash", "elm", "oak"], 60), rng.integers(0, 4, 60)
    memories[labels == "oak"] = 7
    one, two = (np.equal.outer(each, each)[np.triu_indices(60, 1)] for each in (labels, memories))
    expected = one.mean() * two.mean()
    ari = ((one & two).mean() - expected) / ((one.mean() + two.mean()) / 2 - expected)
    cells = pd.crosstab(labels, memories).to_numpy() / 60
    rows, columns = cells.sum(1), cells.sum(0)
    shared = stats.entropy(cells.ravel(), np.outer(rows, columns).ravel())
    nmi = 2 * shared / (stats.entropy(rows) + stats.entropy(columns))
    np.testing.assert_allclose(agreement(labels, memories)[:2], (ari, nmi), rtol=1e-10)
    assert agreement(labels, memories)[2:] == (60, 3)


def test_data_without_a_label_do_not_count() -> None:
    labels, memories = np.array(["a", "b", None, "b", np.nan], object), np.array([0, 1, 0, 0, 1])
    assert agreement(labels, memories) == agreement(["a", "b", "b"], [0, 1, 0])
    with pytest.raises(InputError, match="labels: all are missing"):
        agreement([None, None], [0, 1])


def groupings(seed: int, num_labels: int, num_memories: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels that are letters, and memories that follow them, more or less."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, num_labels, 300)
    memories = np.where(rng.random(300) < 0.6, (3 * codes + 1) % num_memories, rng.integers(0, num_memories, 300))
    return np.array(list("abcdefgh"))[codes], memories


@pytest.mark.parametrize(("num_labels", "num_memories"), [(3, 5), (5, 3), (4, 4), (1, 4), (4, 1), (1, 1)])
def test_agreement_is_scikit_learns(num_labels: int, num_memories: int) -> None:
    labels, memories = groupings(1, num_labels, num_memories)
    expected = adjusted_rand_score(labels, memories), normalized_mutual_info_score(labels, memories)
    found = agreement(labels, memories)
    np.testing.assert_allclose(found[:2], expected, rtol=1e-12, atol=1e-12)
    counts = Counter(zip(labels.tolist(), memories.tolist(), strict=True))
    np.testing.assert_allclose(agreement_of(counts | {(None, 0): 5}), found, rtol=1e-12)


@pytest.mark.parametrize(("num_labels", "num_memories"), [(3, 5), (5, 3), (4, 4), (1, 4)])
def test_the_table_has_the_counts_of_scikit_learn_under_other_names(num_labels: int, num_memories: int) -> None:
    labels, memories = groupings(2, num_labels, num_memories)
    table = contingency(labels, memories)
    expected = contingency_matrix(labels, memories)
    rows, columns = (np.argsort(np.array(names)) for names in (table.rows, table.columns))
    np.testing.assert_array_equal(table.counts[np.ix_(rows, columns)], expected)
    assert table.num_data == 300


@pytest.mark.parametrize(("num_labels", "num_memories"), [(3, 5), (5, 3), (4, 4)])
def test_no_other_assignment_shares_more_data(num_labels: int, num_memories: int) -> None:
    labels, memories = groupings(3, num_labels, num_memories)
    counts = contingency_matrix(labels, memories)
    short, long = sorted((num_labels, num_memories))
    wide = counts if num_labels <= num_memories else counts.T
    best = max(wide[range(short), order].sum() for order in itertools.permutations(range(long), short))
    table = contingency(labels, memories)
    assert table.num_shared == best
    assert table.num_matched == short
    sizes = table.counts.sum(axis=1)[: table.num_matched]
    assert (np.diff(sizes) <= 0).all()


def test_groups_that_share_nothing_are_no_partners() -> None:
    table = contingency(["a", "b", "b"], [0, 0, 0])
    assert (table.rows, table.columns) == (("b", "a"), (0,))
    assert (table.num_matched, table.num_shared, table.num_data) == (1, 2, 3)
