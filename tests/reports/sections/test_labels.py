"""The section on known labels says what scikit-learn says, and stays small."""

import re

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix

from probam.errors import InputError
from probam.reports.html import report_html
from probam.reports.page import number
from probam.reports.sections.labels import contingency_table, labels_section
from probam.reports.summaries.contingency import contingency
from probam.reports.tree import variable
from tests.reports.test_html import read


def known_labels(tree: xr.DataTree) -> np.ndarray:
    """Labels that follow the memories, with some that do not, and two that are missing."""
    memories = variable(tree, "partition", "label").values
    labels = np.array(["oak", "elm", "ash", "fir"], object)[memories % 4]
    labels[::7] = "<b>yew</b>"
    labels[[3, 11]] = [None, np.nan]
    return labels


def cells(html: str) -> list[list[str]]:
    """The cells of a table's body, as text."""
    body = html[html.index("<tbody>") : html.index("</tbody>")]
    rows = re.findall(r"<tr>(.*?)</tr>", body)
    return [[re.sub(r"<[^>]*>", "", cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)] for row in rows]


def test_the_section_has_the_numbers_of_scikit_learn(posterior_tree: xr.DataTree) -> None:
    labels = known_labels(posterior_tree)
    memories = variable(posterior_tree, "partition", "label").values
    known = ~pd.isna(labels)
    body = labels_section(posterior_tree, labels).body
    for score in (adjusted_rand_score, normalized_mutual_info_score):
        assert f"<strong>{number(float(score(labels[known].astype(str), memories[known])), 3)}</strong>" in body
    assert "Two rows without a label are left out." in body
    table = cells(body)
    names, groups = np.unique(labels[known].astype(str)), np.unique(memories[known])
    heads = [int(name) for name in re.findall(r"</span>(\d+)</th>", body)]
    for row in table:
        own = contingency_matrix(labels[known].astype(str), memories[known])[
            names.tolist().index(row[0].replace("&lt;", "<").replace("&gt;", ">"))
        ]
        assert [int(cell) for cell in row[1:-1]] == [own[groups.tolist().index(memory)] for memory in heads]
        assert int(row[-1]) == own.sum()
    assert sum(int(row[-1]) for row in table) == known.sum()


def test_the_report_has_the_section_where_labels_are_given(posterior_tree: xr.DataTree, report: str) -> None:
    page = report_html(posterior_tree, known_labels(posterior_tree))
    reader = read(page)
    title = "Do the memories match the known labels?"
    assert reader.headings.index(title) == reader.headings.index("Which data belong together?") + 1
    assert title not in report
    assert "<b>yew" not in page
    assert "<b>yew</b>" in reader.text


def test_labels_that_do_not_match_the_data_are_refused(posterior_tree: xr.DataTree) -> None:
    with pytest.raises(InputError, match="labels: expected one for each of 66 fitted data; got 3"):
        labels_section(posterior_tree, ["a", "b", "c"])
    with pytest.raises(InputError, match="labels: all are missing"):
        labels_section(posterior_tree, [None] * 66)


def test_rows_whose_memory_was_told_are_counted(posterior_tree: xr.DataTree) -> None:
    tree = posterior_tree.copy()
    allowed = np.ones((66, posterior_tree["memory"].sizes["memory"]), np.int8)
    allowed[:5, 1:] = 0
    tree["observed_data"] = xr.DataTree(
        tree["observed_data"].to_dataset().assign(allowed=(("datum", "memory"), allowed))
    )
    assert "The fit was told the memory of five rows" in labels_section(tree, known_labels(tree)).body


def test_a_large_table_shows_its_heaviest_part_and_sums_the_rest() -> None:
    rng = np.random.default_rng(0)
    labels, memories = rng.integers(0, 300, 5000), rng.integers(0, 200, 5000)
    others = ("more label", "more labels", "more memory", "more memories")
    html = contingency_table(contingency(labels, memories), caption="c", row=str, column=str, others=others)
    small, large = html.split("<details>")
    for part, most in ((small, 12), (large, 40)):
        table = cells(part)
        assert len(table) == most + 1
        assert {len(row) for row in table} == {most + 3}
        assert table[-1][0] == f"{300 - most} more labels"
        total = sum(int(row[-1].replace("\u202f", "")) for row in table)
        assert total == 5000
        for row in table:
            assert sum(int(cell.replace("\u202f", "")) for cell in row[1:-1]) == int(row[-1].replace("\u202f", ""))
    assert small.count("<strong>") == 12
    assert len(html) < 100_000
