"""The figures say what the tree says: bars are frequencies, marks sit at the memories, views map back and forth."""

import itertools
import re

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from probam.errors import InputError
from probam.reports.figures.data import coclustering_figure, predictive_check, predictive_figure
from probam.reports.figures.landscape import View, disagreement, disagreement_figure, is_line, landscape_figure, view
from probam.reports.figures.memories import memories_figure, weights_figure
from probam.reports.figures.posterior import occupied_figure, optimisation_figure, traces_figure
from probam.reports.figures.shown import in_use, row_partition, shown_features, shown_memories
from probam.reports.figures.style import MEMORY_COLOURS, ink_on, inline_svg, new_figure
from probam.reports.summaries.diagnostics import diagnose
from probam.reports.tree import variable


def test_no_figure_touches_pyplot_or_leaves_settings_behind(posterior_tree: xr.DataTree) -> None:
    before, open_figures = dict(mpl.rcParams), plt.get_fignums()
    figure = weights_figure(posterior_tree)
    inline_svg(figure, "w", "weights")
    assert isinstance(figure, Figure)
    assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == open_figures


def test_the_bars_are_the_posterior_frequencies(posterior_tree: xr.DataTree) -> None:
    counts = variable(posterior_tree, "invariant", "num_occupied").values.ravel()
    bars = occupied_figure(counts).axes[0].patches
    shown = {round(bar.get_x() + bar.get_width() / 2): bar.get_height() for bar in bars}  # type: ignore[attr-defined]
    assert sum(shown.values()) == pytest.approx(1)
    for value, share in shown.items():
        assert share == np.mean(counts == value)


def test_a_trace_row_for_each_moving_quantity_and_none_for_constants(posterior_tree: xr.DataTree) -> None:
    titles = [axes.get_title(loc="left") for axes in traces_figure(diagnose(posterior_tree)).axes[::2]]
    assert titles[:3] == ["log joint density", "log likelihood", "memories that hold data"]
    frozen = posterior_tree.copy()
    frozen["invariant"] = (
        posterior_tree["invariant"]
        .to_dataset()
        .assign(num_occupied=xr.full_like(variable(posterior_tree, "invariant", "num_occupied"), 4))
    )
    titles = [axes.get_title(loc="left") for axes in traces_figure(diagnose(frozen)).axes[::2]]
    assert "memories that hold data" not in titles


def test_the_rank_lines_of_a_stuck_chain_leave_the_band(posterior_tree: xr.DataTree) -> None:
    def widest(tree: xr.DataTree) -> float:
        rank = traces_figure(diagnose(tree), most=2).axes[1]
        band = float(rank.patches[0].get_height()) / 2  # type: ignore[attr-defined]
        return max(float(np.abs(line.get_ydata()).max()) for line in rank.lines) / band

    assert widest(posterior_tree) < 1
    lp = variable(posterior_tree, "sample_stats", "lp").copy()
    lp[0] += 30
    stuck = posterior_tree.copy()
    stuck["sample_stats"] = xr.Dataset({"lp": lp})
    assert widest(stuck) > 1


def test_traces_are_refused_where_there_are_no_chains(em_tree: xr.DataTree) -> None:
    with pytest.raises(InputError, match="traces need Markov chains"):
        traces_figure(diagnose(em_tree))


def test_memory_panels_mark_means_and_intervals(posterior_tree: xr.DataTree) -> None:
    figure = memories_figure(posterior_tree)
    chosen = shown_memories(posterior_tree)
    mean = variable(posterior_tree, "memory", "mean").values
    for feature, axes in enumerate(figure.axes):
        dots = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"]  # type: ignore[index]
        np.testing.assert_array_equal(dots, mean[chosen, feature])
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["length <mm>", "mass & co."]


def test_many_features_become_a_heat_map_in_sds_from_the_mean(em_tree: xr.DataTree) -> None:
    image = memories_figure(em_tree).axes[0].images[0].get_array()
    x = variable(em_tree, "observed_data", "x").values
    expected = (variable(em_tree, "memory", "mean").values - x.mean(axis=0)) / x.std(axis=0)
    order = shown_memories(em_tree)
    np.testing.assert_allclose(np.asarray(image), expected[order], rtol=1e-12)


def test_the_features_shown_are_those_in_which_memories_differ(em_tree: xr.DataTree) -> None:
    tree = em_tree.copy()
    memory = em_tree["memory"].to_dataset().copy(deep=True)
    memory["mean"][:, :] = 0
    memory["mean"][0, [3, 17, 29]] = 9.0
    tree["memory"] = memory
    assert shown_features(tree, 3).tolist() == [3, 17, 29]
    assert shown_features(tree, 30).tolist() == list(range(30))


def test_rarely_used_memories_are_left_out_and_the_heaviest_comes_first(posterior_tree: xr.DataTree) -> None:
    occupied = variable(posterior_tree, "memory", "occupied").values
    weight = variable(posterior_tree, "memory", "weight").values
    chosen = shown_memories(posterior_tree)
    assert (np.diff(weight[chosen]) <= 0).all()
    assert set(chosen) == set(np.flatnonzero(occupied >= 0.05))
    assert set(np.flatnonzero(in_use(posterior_tree))) <= set(chosen)


def test_weight_intervals_are_quantiles_of_relabelled_draws_where_those_are_stored(posterior_tree: xr.DataTree) -> None:
    weights = variable(posterior_tree, "posterior", "weights").values.reshape(-1, 8)
    order = np.argsort(-weights, axis=1)
    tree = posterior_tree.copy()
    tree["memory"] = posterior_tree["memory"].to_dataset().assign(permutation=(("sample", "memory"), order))
    lines = weights_figure(tree).axes[0].lines
    intervals = np.array([np.asarray(line.get_xdata()) for line in lines if line.get_linewidth() == 2])
    sorted_weights = np.take_along_axis(weights, order, axis=1)
    expected = np.quantile(sorted_weights, [0.05, 0.95], axis=0).T[shown_memories(tree)]
    np.testing.assert_allclose(intervals, expected, rtol=1e-12)


def test_the_coclustering_picture_is_the_matrix_in_the_order_of_the_partition(posterior_tree: xr.DataTree) -> None:
    image = np.asarray(coclustering_figure(posterior_tree).axes[0].images[0].get_array())
    matrix = variable(posterior_tree, "partition", "coclustering").values
    np.testing.assert_allclose(np.sort(image.ravel()), np.sort(matrix.ravel()))
    sizes = np.sort(np.bincount(row_partition(posterior_tree)))[::-1]
    edges = np.concatenate([[0], np.cumsum(sizes)])
    inside = np.mean([image[a:b, a:b].mean() for a, b in itertools.pairwise(edges)])
    assert inside > 0.8 > 0.2 > image[: sizes[0], sizes[0] :].mean()


def test_the_point_partition_of_the_rows_is_preferred_to_labels(posterior_tree: xr.DataTree) -> None:
    np.testing.assert_array_equal(row_partition(posterior_tree), variable(posterior_tree, "partition", "label").values)
    tree = posterior_tree.copy()
    tree["partition"] = posterior_tree["partition"].to_dataset().assign(point=("row", np.arange(66) % 2))
    np.testing.assert_array_equal(row_partition(tree), np.arange(66) % 2)


def test_the_predictive_check_passes_the_true_law_and_catches_a_wrong_one(posterior_tree: xr.DataTree) -> None:
    checks = predictive_check(posterior_tree)
    assert [check.feature for check in checks] == [0, 1]
    for check in checks:
        assert check.observed.sum() == pytest.approx(1)
        assert ((check.low <= check.middle) & (check.middle <= check.high)).all()
    assert np.concatenate([check.outside for check in checks]).mean() <= 0.15
    wrong = posterior_tree.copy()
    wrong["posterior_predictive"] = posterior_tree["posterior_predictive"].to_dataset() * 0 + 20.0
    assert np.concatenate([check.outside for check in predictive_check(wrong)]).mean() > 0.4


def test_whole_numbers_get_a_bin_each(posterior_tree: xr.DataTree) -> None:
    tree = posterior_tree.copy()
    whole = posterior_tree["observed_data"].to_dataset().copy(deep=True)
    whole["x"][:, 0] = np.arange(66) % 7
    tree["observed_data"] = whole
    first = predictive_check(tree)[0]
    np.testing.assert_array_equal(first.edges, np.arange(-1.5, 8))
    np.testing.assert_allclose(first.observed[1:8], np.bincount(np.arange(66) % 7) / 66)


def test_the_best_restart_is_drawn_strongly_to_its_end(em_tree: xr.DataTree) -> None:
    lines = optimisation_figure(em_tree).axes[0].lines
    strong = [line for line in lines if line.get_color() == MEMORY_COLOURS[0] and line.get_marker() == "o"]
    assert len(strong) == 1
    best = np.nanmax(variable(em_tree, "optimisation", "objective").values)
    assert strong[0].get_ydata()[-1] == best  # type: ignore[index]


def test_the_view_maps_model_planes_to_data_units_and_back() -> None:
    rng = np.random.default_rng(0)
    center, scale = np.array([3.0, -50.0]), np.array([0.5, 12.0])
    own = View(center, scale, np.zeros(2), np.eye(2), own_axes=True, spherical=False)
    points = rng.normal(size=(5, 2)) * scale + center
    np.testing.assert_allclose(own(points), points, rtol=1e-12)
    np.testing.assert_allclose(own.draw(np.array([1.0, -1.0])), [3.5, -62.0])
    np.testing.assert_allclose(own.spread(np.array([2.0, 7.0])), [2.0, 7.0])
    axis = np.linalg.qr(rng.normal(size=(4, 4)))[0][:2]
    origin, scale4 = rng.normal(size=4), np.array([1.0, 2.0, 3.0, 4.0])
    plane = View(np.zeros(4), scale4, origin, axis, own_axes=False, spherical=False)
    on_plane = rng.normal(size=(6, 2))
    np.testing.assert_allclose(plane((origin + on_plane @ axis) * scale4), on_plane, atol=1e-12)
    draws = rng.normal(size=(200_000, 4)) * np.array([0.3, 0.1, 2.0, 1.0])
    np.testing.assert_allclose(plane.spread(np.array([0.3, 0.1, 2.0, 1.0])), plane(draws).std(axis=0), rtol=0.01)


def test_disagreement_counts_data_and_area(posterior_tree: xr.DataTree) -> None:
    recall = posterior_tree["recall"].to_dataset()
    result = disagreement(posterior_tree)
    assert result.num_data == 66
    assert result.num_differ == int((recall["datum_basin"] != recall["datum_responsible"]).sum())
    assert result.plane_share == pytest.approx(float((recall["grid_basin"] != recall["grid_responsible"]).mean()))
    assert result.plane_share > 0  # basins are not the cells of responsibility (CLAIMS A6)
    masked = posterior_tree.copy()
    half = recall.copy(deep=True)
    half["grid_basin"] = half["grid_basin"].astype(float)
    half["grid_basin"][:20] = np.nan
    masked["recall"] = half
    kept = (recall["grid_basin"] != recall["grid_responsible"]).values[20:]
    assert disagreement(masked).plane_share == pytest.approx(kept.mean())


def test_landscapes_are_drawn_in_data_units_with_memories_in_place(posterior_tree: xr.DataTree) -> None:
    assert view(posterior_tree).own_axes
    mean = variable(posterior_tree, "memory", "mean").values
    used = [memory for memory in shown_memories(posterior_tree) if in_use(posterior_tree)[memory]]
    for draw in (landscape_figure, disagreement_figure):
        axes = draw(posterior_tree).axes[0]
        discs = {
            (line.get_xdata()[0], line.get_ydata()[0])  # type: ignore[index]
            for line in axes.lines
            if line.get_marker() == "o" and line.get_markersize() == 12
        }
        assert discs == {tuple(mean[memory]) for memory in used}
        assert [axes.get_xlabel(), axes.get_ylabel()] == ["length <mm>", "mass & co."]


def test_every_kind_of_landscape_can_be_drawn(
    line_tree: xr.DataTree, sphere_tree: xr.DataTree, plane_tree: xr.DataTree
) -> None:
    assert is_line(line_tree)
    assert not is_line(sphere_tree)
    for tree in (line_tree, sphere_tree, plane_tree):
        for draw in (landscape_figure, disagreement_figure):
            svg = inline_svg(draw(tree), "x", "alt")
            assert svg.startswith("<svg")


def test_the_energy_curve_of_one_feature_has_its_memories_on_it(line_tree: xr.DataTree) -> None:
    axes = landscape_figure(line_tree).axes[0]
    x, energy = (np.asarray(values, dtype=float) for values in axes.lines[0].get_data())
    discs = [np.array(line.get_data(), dtype=float)[:, 0] for line in axes.lines if line.get_marker() == "o"]
    assert len(discs) == 3
    for at, height in discs:
        assert height == pytest.approx(np.interp(at, x, energy), abs=1e-9)


def test_inline_svg_needs_nothing_and_shares_no_ids(posterior_tree: xr.DataTree) -> None:
    one = inline_svg(weights_figure(posterior_tree), "one", 'the "weights" & <more>')
    two = inline_svg(predictive_figure(posterior_tree, predictive_check(posterior_tree)), "two", "check")
    assert one == inline_svg(weights_figure(posterior_tree), "one", 'the "weights" & <more>')
    assert "http" not in one + two
    assert "&quot;weights&quot; &amp; &lt;more&gt;" in one
    assert "var(--ink)" in one
    assert "DejaVu" not in one

    def ids(svg: str) -> set[str]:
        return set(re.findall(r'\bid="([^"]+)"', svg))

    assert ids(one)
    assert not ids(one) & ids(two)


@pytest.mark.parametrize("name", ["Größe", "Ω", "влажность", "温度", "المساحة", "मान"])
def test_text_in_any_script_reaches_the_page_and_nothing_is_said_of_it(name: str) -> None:
    figure = new_figure(3, 2)
    figure.add_subplot().set_title(name)
    assert f">{name}</text>" in inline_svg(figure, "x", name)  # a warning would be an error here


@pytest.mark.parametrize("colour", MEMORY_COLOURS)
def test_the_number_of_a_memory_stands_out_from_its_colour(colour: str) -> None:
    """Contrast of at least 4.5 to 1: success criterion 1.4.3 of WCAG 2.2."""

    def luminance(text: str) -> float:
        channels = [int(text[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted(luminance(text) for text in (colour, ink_on(colour)))
    assert (light + 0.05) / (dark + 0.05) >= 4.5
