"""The page of several fits: its parts in order, escaped, and no larger than a reader can take in."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from sklearn.metrics import adjusted_rand_score

from probam.reports.comparison import comparison_html
from probam.reports.html import report_html
from probam.reports.page import number
from probam.reports.tree import variable
from tests.reports.browser import Open, cut_off, needs_browser
from tests.reports.sections.test_labels import cells, known_labels
from tests.reports.test_accessible import violations
from tests.reports.test_html import read

HEADINGS = [
    "Side by side",
    "Do the fits group the same rows?",
    "Which memories correspond?",
    "What could not be compared",
    "Five words",
]
HOSTILE = "<script>alert('b')</script>"


def renumbered(tree: xr.DataTree, move: int) -> xr.DataTree:
    """The fit with its memories numbered the other way round, and some rows of the partition moved."""
    other = tree.copy()
    size = tree["memory"].sizes["memory"]
    turned = {"memory": np.arange(size)[::-1]}
    memory = tree["memory"].to_dataset()
    other["memory"] = xr.DataTree(memory.isel(turned).assign_coords(memory=np.arange(size)))
    partition = tree["partition"].to_dataset().copy(deep=True)
    partition["label"] = size - 1 - partition["label"]
    partition["point"][:move] = partition["point"].max() + 1
    other["partition"] = xr.DataTree(partition)
    return other


def scored(trees: Mapping[str, xr.DataTree]) -> pd.DataFrame:
    """A table as ``compare`` makes it, with numbers of its own."""
    columns = ("elpd_loo", "elpd_diff", "elpd_diff_se", "bad_k", "log_lik", "memories", "seconds")
    rows = {name: [-100.0 - place, -1.0 * place, 2.0, 0, -90.0, 3.0, 1.5] for place, name in enumerate(trees)}
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    rest = ("elpd_se", "bic", "icl", "log_evidence", "evidence_se", "ari", "nmi")
    frame = frame.reindex(columns=[*columns, *rest])
    frame.attrs["notes"] = {next(iter(trees)): ["a note <b>in bold</b>"]}
    return frame


@pytest.fixture(scope="module")
def trees(posterior_tree: xr.DataTree) -> dict[str, xr.DataTree]:
    one = posterior_tree.copy()
    partition = posterior_tree["partition"].to_dataset()
    rows = partition["label"].values[partition["row"].values]
    one["partition"] = xr.DataTree(partition.assign(point=(("row",), rows)))
    return {"one": one, HOSTILE: renumbered(one, 9)}


@pytest.fixture(scope="module")
def page(trees: dict[str, xr.DataTree]) -> str:
    return comparison_html(trees, scored(trees))


def part(page: str, name: str) -> str:
    """The HTML of a section."""
    return page[page.index(f'<section id="{name}"') :].split("</section>")[0]


def test_the_page_has_its_verdicts_first_and_its_parts_in_order(page: str) -> None:
    reader = read(page)
    assert reader.headings == HEADINGS
    head = page[page.index("<header>") : page.index("</header>")]
    assert head.count('class="verdict') == 2
    assert "No fit is preferred" in head
    assert "All fits have the same model and prior" in head
    assert {target[1:] for target in reader.targets if target.startswith("#")} <= set(reader.ids)
    assert len(reader.ids) == len(set(reader.ids))


def test_what_users_wrote_is_escaped_on_the_page_of_several_fits(page: str) -> None:
    assert page.count("<script") == 1  # its own
    assert "<b>in bold" not in page
    assert "length <mm>" not in page
    assert HOSTILE in read(page).text


def test_agreement_of_the_point_partitions_is_scikit_learns(page: str, trees: dict[str, xr.DataTree]) -> None:
    one, other = (variable(tree, "partition", "point").values for tree in trees.values())
    (row,) = cells(part(page, "partitions"))
    assert row[1] == number(float(adjusted_rand_score(one, other)), 3)
    shared = pd.crosstab(one, other).to_numpy() / len(one)
    rows, columns = (np.broadcast_to(shared.sum(axis=axis, keepdims=True), shared.shape) for axis in (1, 0))
    held = shared > 0
    left = -np.sum(shared[held] * np.log(shared[held] ** 2 / (rows * columns)[held]))
    assert row[3] == number(float(left), 3)


def test_memories_of_the_same_rows_are_matched_whatever_their_numbers(page: str, trees: dict[str, xr.DataTree]) -> None:
    size = trees["one"]["memory"].sizes["memory"]
    table, crossed = (cells(piece) for piece in part(page, "matched").split('<p class="caption">')[1:3])
    assert len(table) == len(np.unique(variable(trees["one"], "partition", "label").values))
    for first, second, shared, share, weight, other, *means in table:
        assert int(first) + int(second) == size - 1
        assert share == "100\u202f%"
        assert weight == other
        assert means[0] == means[1]
        assert int(shared) > 0
    assert sum(int(row[-1]) for row in crossed) == 66


def test_fits_of_other_models_are_not_called_the_same(trees: dict[str, xr.DataTree]) -> None:
    other = trees["one"].copy()
    other.attrs = trees["one"].attrs | {"family_options": '{"covariance": "full"}'}
    both = {"one": trees["one"], "full": other}
    assert "All fits have the same model" not in comparison_html(both, scored(both))


def test_a_fit_without_partition_or_memories_leaves_their_sections_out(trees: dict[str, xr.DataTree]) -> None:
    needed = ("posterior", "observed_data", "constant_data", "invariant")
    bare = xr.DataTree.from_dict(
        {"/": xr.Dataset(attrs=trees["one"].attrs), **{name: trees["one"][name].to_dataset() for name in needed}}
    )
    both = {"one": trees["one"], "bare": bare}
    assert read(comparison_html(both, scored(both))).headings == [HEADINGS[0], *HEADINGS[3:]]


def test_many_memories_make_tables_of_bounded_size() -> None:
    many = many_memories(np.random.default_rng(5), 300)
    both = {"a": many, "b": renumbered(many, 50)}
    page = comparison_html(both, scored(both))
    assert len(page) < 400_000
    for piece in re.findall(r"<tbody>.*?</tbody>", page):
        assert piece.count("<tr") <= 41
    assert "260 more memories" in page


@pytest.fixture(scope="module")
def files(page: str, trees: dict[str, xr.DataTree], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The page of several fits, and a report that was told labels."""
    folder = tmp_path_factory.mktemp("pages")
    written = {"comparison": page, "labels": report_html(trees["one"], known_labels(trees["one"]))}
    for name, text in written.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return [folder / f"{name}.html" for name in written]


@needs_browser
@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (768, "light"), (1440, "light")])
def test_nothing_is_cut_off_and_rules_of_accessibility_are_kept(
    open_page: Open, files: list[Path], width: int, scheme: str
) -> None:
    for path in files:
        visit = open_page(path, width=width, color_scheme=scheme)
        assert cut_off(visit.page) == []
        assert violations(visit.page) == []
        assert visit.complaints == []
        assert visit.requests == [path.as_uri()]


def many_memories(rng: np.random.Generator, size: int) -> xr.DataTree:
    """A point estimate of many memories in eight features; every one holds rows."""
    label = np.concatenate([np.arange(size), rng.integers(0, size, 2000)])
    means = rng.normal(size=(size, 8))
    groups: dict[str, dict[str, Any]] = {
        "posterior": {"weights": (("chain", "draw", "memory"), np.full((1, 1, size), 1 / size))},
        "observed_data": {"x": (("datum", "feature"), means[label] + rng.normal(size=(len(label), 8)))},
        "constant_data": {"center": (("feature",), np.zeros(8)), "scale": (("feature",), np.ones(8))},
        "invariant": {"num_occupied": (("chain", "draw"), np.array([[size]]))},
        "memory": {
            "mean": (("memory", "feature"), means),
            "weight": (("memory",), np.bincount(label) / len(label)),
        },
        "partition": {
            "label": (("datum",), label),
            "point": (("row",), label[:400]),
            "coclustering": (("row", "row_bis"), np.eye(400)),
        },
    }
    coordinates = {"feature": [f"f{i}" for i in range(8)], "memory": np.arange(size), "row": np.arange(400)}
    nodes = {
        name: xr.Dataset(variables).assign_coords(
            {dim: labels for dim, labels in coordinates.items() if any(dim in v[0] for v in variables.values())}
        )
        for name, variables in groups.items()
    }
    attributes = {"engine": "em", "weights": "dirichlet", "num_components": size}
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=attributes), **nodes})
