"""The section on recall under the posterior says what the variables say, and older fits do without it."""

import re
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.patches import Rectangle

from probam.reports.figures.data import grouping
from probam.reports.figures.recall import attractors_figure, basins_figure, queries_figure, uncertain_queries
from probam.reports.html import report_html
from probam.reports.sections.recall import recall_section
from probam.reports.tree import variable

SHARES = np.array([[0.7, 0.25, 0.03], [1.0, 0.0, 0.0], [0.45, 0.01, 0.54]])
ATTRACTORS = np.array([[3, 3, 2, 4], [3, 2, 3, 3]])
SPURIOUS = np.array([[0, 0, 0, 1], [0, 0, 1, 0]])


def with_recall(tree: xr.DataTree, **changed: Any) -> xr.DataTree:
    """The tree with recall under its posterior: three queries, three memories, eight draws."""
    num_memories = tree["memory"].sizes["memory"]
    size = len(variable(tree, "partition", "coclustering"))
    labels = np.arange(size) % 3
    shares = np.zeros((3, num_memories))
    shares[:, :3] = SHARES
    barrier = np.full((num_memories, num_memories), np.nan)
    barrier[:3, :3] = [[0.0, 3.25, 0.0], [1.5, 0.0, 1.5], [0.0, 3.25, 0.0]]
    merged = np.where(np.isnan(barrier), np.nan, barrier == 0)
    by_query, between = ("query", "feature"), ("memory", "memory_bis")
    recall = xr.Dataset(
        {
            "num_attractors": (("chain", "draw"), ATTRACTORS),
            "num_spurious": (("chain", "draw"), SPURIOUS),
            "same_basin": (("row", "row_bis"), (labels[:, None] == labels).astype(np.float32)),
            "query": (by_query, np.array([[21.0, 140.0], [16.0, 150.0], [24.0, 170.0]])),
            "recalled_mean": (by_query, np.array([[20.5, 141.0], [15.0, 151.0], [23.0, 171.0]])),
            "recalled_sd": (by_query, np.array([[0.31, 2.0], [0.1, 1.0], [0.2, 3.0]])),
            "recall_probability": (("query", "memory"), shares),
            "barrier": (between, barrier),
            "barrier_q05": (between, 0.5 * barrier),
            "barrier_q95": (between, 2 * barrier),
            "merged": (between, merged),
        },
        coords={"feature": variable(tree, "observed_data", "feature").values},
        attrs={"unsettled": 0.0, "mse_descent": 0.4321, "mse_conditional_mean": 0.321, "mse_column_mean": 1.01},
    ).assign(changed)
    return xr.DataTree.from_dict({**{n.path: n.to_dataset(inherit=False) for n in tree.subtree}, "/recall": recall})


def test_a_fit_without_these_variables_has_no_such_section(posterior_tree: xr.DataTree) -> None:
    assert recall_section(posterior_tree) is None
    assert 'id="recall"' not in report_html(posterior_tree)


def test_the_bars_of_an_uncertain_query_are_its_probabilities(posterior_tree: xr.DataTree) -> None:
    tree = with_recall(posterior_tree)
    np.testing.assert_array_equal(uncertain_queries(tree), [2, 0])  # the least certain first; query 1 is certain
    axes = queries_figure(tree).axes[0]
    bars = np.array([[p.get_width() for p in group] for group in axes.containers])  # (parts, queries)
    np.testing.assert_allclose(bars[:3].T, SHARES[[2, 0]])
    np.testing.assert_allclose(bars[3], [0, 0.02], atol=1e-12)  # no rest
    assert [text.get_text() for text in axes.get_yticklabels()] == ["query 2", "query 0"]
    np.testing.assert_allclose(bars.sum(axis=0), 1)
    rows = with_recall(posterior_tree, query_row=("query", [31, 4, 15]))
    assert [text.get_text() for text in queries_figure(rows).axes[0].get_yticklabels()] == ["row 15", "row 31"]
    assert '<th scope="row">row 15</th>' in str(recall_section(rows))


def test_the_counts_are_the_frequencies_over_draws(posterior_tree: xr.DataTree) -> None:
    attractors, spurious = attractors_figure(with_recall(posterior_tree)).axes

    def shown(axes: Any) -> dict[int, float]:
        bars = [bar for bar in axes.patches if isinstance(bar, Rectangle)]
        return {round(bar.get_x() + bar.get_width() / 2): bar.get_height() for bar in bars if bar.get_height()}

    assert shown(attractors) == {2: 0.25, 3: 0.625, 4: 0.125}
    assert shown(spurious) == {0: 0.75, 1: 0.25}


def test_both_matrices_stand_in_one_order(posterior_tree: xr.DataTree) -> None:
    tree = with_recall(posterior_tree)
    left, right = (axes.images[0].get_array() for axes in basins_figure(tree).axes[:2])
    together, same = variable(tree, "partition", "coclustering").values, variable(tree, "recall", "same_basin").values
    assert left is not None
    assert right is not None
    chosen = grouping(tree).order
    assert sorted(chosen.tolist()) == list(range(len(together)))
    np.testing.assert_array_equal(left, together[np.ix_(chosen, chosen)])
    np.testing.assert_array_equal(right, same[np.ix_(chosen, chosen)])


def test_the_section_says_the_numbers(posterior_tree: xr.DataTree) -> None:
    section = recall_section(with_recall(posterior_tree))
    assert section is not None
    text = re.sub(r"\s+", " ", re.sub(r"<svg.*?</svg>", "", section.body, flags=re.DOTALL))
    assert "Recall from the data, on 8 draws, has three attractors with probability 62 %" in text
    assert "With probability 25 % at least one is spurious" in text
    assert "3.2 (1.6 to 6.5)" in text
    assert "one well" in text
    assert "20.5 ± 0.31" in text.replace("20.50", "20.5")
    assert "0.321" in text
    assert "0.432" in text
    assert "stopped" not in text


def test_a_certain_recall_is_a_sentence(posterior_tree: xr.DataTree) -> None:
    num_memories = posterior_tree["memory"].sizes["memory"]
    tree = with_recall(posterior_tree, recall_probability=(("query", "memory"), np.eye(num_memories)[:3]))
    section = recall_section(tree)
    assert section is not None
    assert "Each of the 3 queries is recalled as the same memory in every draw." in section.body


def test_recalls_that_were_stopped_are_reported(posterior_tree: xr.DataTree) -> None:
    tree = with_recall(posterior_tree)
    tree["recall"].attrs["unsettled"] = 0.04
    section = recall_section(tree)
    assert section is not None
    assert "4 % of the recalls were stopped before they converged" in section.body
