"""The report of a large fit, 200 memories in 500 features: a small page, with tables that people can read."""

import re

import numpy as np
import pytest
import xarray as xr

from probam.reports.figures.data import Grouping, coclustering_figure, grouping, predictive_check
from probam.reports.html import report_html
from probam.reports.tree import Variables, build_tree

SIZE, FEATURES, ROWS = 200, 500, 2000


@pytest.fixture(scope="module")
def large_tree() -> xr.DataTree:
    """A point estimate whose memories are spread over all directions, with a landscape and two replicated data sets."""
    rng = np.random.default_rng(8)
    loc = rng.normal(size=(SIZE, FEATURES))
    label = np.concatenate([np.arange(SIZE), rng.integers(0, SIZE // 10, ROWS - SIZE)])
    x = loc[label] + 0.5 * rng.normal(size=(ROWS, FEATURES))
    weights = np.bincount(label, minlength=SIZE) / ROWS
    rows = np.sort(rng.permutation(ROWS)[:400])
    return build_tree(
        attributes={"engine": "em", "weights": "dirichlet", "num_components": SIZE, "seconds": 1.0},
        data=x,
        columns=[f"feature {i}" for i in range(FEATURES)],
        center=np.zeros(FEATURES),
        scale=np.ones(FEATURES),
        posterior={"weights": (weights[None, None], ("chain", "draw", "memory"))},
        invariant={"num_occupied": (np.array([[SIZE]]), ("chain", "draw"))},
        posterior_predictive={
            "x": (x + rng.normal(size=(1, 2, ROWS, FEATURES)), ("chain", "draw", "datum", "feature"))
        },
        memory={
            "mean": (loc, ("memory", "feature")),
            "sd": (np.full_like(loc, 0.5), ("memory", "feature")),
            "weight": (weights, ("memory",)),
            "size": (weights * ROWS, ("memory",)),
            "occupied": (np.ones(SIZE), ("memory",)),
        },
        partition={
            "coclustering": (np.equal.outer(label[rows], label[rows]).astype(np.float32), ("row", "row_bis")),
            "point": (label[rows], ("row",)),
            "label": (label, ("datum",)),
            "confidence": (np.full(ROWS, 0.9), ("datum",)),
        },
        recall=landscape(rng, loc, label),
        coordinates={"row": rows},
    )


def landscape(rng: np.random.Generator, loc: np.ndarray, label: np.ndarray) -> Variables:
    """A recall group on the plane of two features, whose energy is a bowl; every memory is an attractor."""
    grid_x, grid_y = np.linspace(-4, 4, 31), np.linspace(-4, 4, 27)
    across, up = np.meshgrid(grid_x, grid_y)
    owner = rng.integers(0, SIZE, across.shape).astype(np.float32)
    on_grid = ("grid_y", "grid_x")
    return {
        "query": (loc[:6], ("query", "feature")),
        "trajectory": (np.stack([loc[:6], loc[:6]], axis=1), ("query", "step", "feature")),
        "converged": (np.ones(6, bool), ("query",)),
        "basin": (np.arange(6), ("query",)),
        "responsible": (np.arange(6), ("query",)),
        "datum_row": (np.arange(1000), ("looked_at",)),
        "datum_basin": (label[:1000], ("looked_at",)),
        "datum_responsible": (label[:1000], ("looked_at",)),
        "attractor": (loc, ("attractor", "feature")),
        "axis": (np.eye(2, FEATURES), ("axis", "feature")),
        "plane_origin": (np.zeros(FEATURES), ("feature",)),
        "grid_x": (grid_x, ("grid_x",)),
        "grid_y": (grid_y, ("grid_y",)),
        "grid_energy": ((across**2 + up**2).astype(np.float32), on_grid),
        "grid_basin": (owner, on_grid),
        "grid_responsible": (owner, on_grid),
    }


def test_the_page_is_small_and_its_tables_are_short(large_tree: xr.DataTree) -> None:
    labels = [f"label {i}" for i in np.random.default_rng(1).integers(0, 90, ROWS)]
    page = report_html(large_tree, labels)
    assert len(page.encode()) < 2_500_000
    at_once = re.sub(r"<details>.*?</details>", "", page, flags=re.DOTALL)
    for text, most in ((at_once, 24), (page, SIZE)):
        sizes = [body.count("<tr") for body in re.findall(r"<tbody>.*?</tbody>", text)]
        assert len(sizes) > 2
        assert max(sizes) <= most
    assert "200 memories hold the 2000 data" in page


def test_lines_do_not_hide_the_matrix_of_many_groups(large_tree: xr.DataTree) -> None:
    groups = grouping(large_tree)
    lines = coclustering_figure(large_tree).axes[0].lines
    assert 0 < len(lines) <= 2 * (groups.wide.sum() + 1) < len(groups.cuts)
    even = Grouping(np.arange(100), np.array([50]))
    assert even.wide.tolist() == [True, True]
    narrow = Grouping(np.arange(100), np.array([97, 98, 99]))
    assert narrow.wide.tolist() == [True, False, False, False]


def test_two_replicated_data_sets_blame_no_bin(large_tree: xr.DataTree) -> None:
    assert not any(check.outside.any() for check in predictive_check(large_tree))
    page = report_html(large_tree)
    assert "90\u202f% band of 2 data sets replicated by the fitted model.<" in page
