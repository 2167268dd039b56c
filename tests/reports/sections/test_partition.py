"""What the report says of a partition and its credible ball is what the tree holds."""

import re

import numpy as np
import xarray as xr

from probam.reports.figures.partition import ball_figure, ball_partitions, has_ball
from probam.reports.sections.posterior import partition_section
from probam.reports.summaries.credible import partition_group
from probam.reports.summaries.partition import canonical
from probam.reports.tree import build_tree, variable


def tree_of(draws: np.ndarray) -> xr.DataTree:
    variables, attributes = partition_group(draws)
    num_data = draws.shape[1]
    values = np.zeros((1, len(draws), 1))
    return build_tree(
        attributes={"probam_version": "0", "engine": "gibbs"},
        data=np.zeros((num_data, 1)),
        columns=["a"],
        center=[0.0],
        scale=[1.0],
        posterior={"beta": (values[..., 0], ("chain", "draw"))},
        partition=variables,
        group_attributes={"partition": attributes},
    )


def noisy(share: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], [9, 6, 4])
    return np.where(rng.random((80, 19)) < share, rng.integers(0, 4, (80, 19)), truth)


def test_the_section_says_the_radius_and_how_many_groups_the_ball_has() -> None:
    tree = tree_of(noisy(0.15))
    section = partition_section(tree)
    assert section is not None
    fewest, most = (len(np.unique(variable(tree, "partition", f"ball_{end}"))) for end in ("upper", "lower"))
    assert fewest < most
    assert f"These have {fewest} to {most} groups." in section.body
    assert re.search(r"95 % of the sampled partitions lie within [\d.]+ nats", section.body)
    assert "Binder’s loss" in section.body
    assert section.body.count("<svg") == 2


def test_one_draw_has_no_ball_to_speak_of() -> None:
    tree = tree_of(noisy(0.15)[:1])
    section = partition_section(tree)
    assert not has_ball(tree)
    assert section is not None
    assert "nats" not in section.body
    assert section.body.count("<svg") == 1


def test_groups_of_the_ball_are_numbered_after_the_point_partition_and_stay_the_partitions_they_were() -> None:
    tree = tree_of(noisy(0.2))
    for name, labels in ball_partitions(tree).items():
        stored = variable(tree, "partition", name).values
        np.testing.assert_array_equal(canonical(labels[None]), canonical(stored[None]))
    np.testing.assert_array_equal(ball_partitions(tree)["point"], variable(tree, "partition", "point").values)
    certain = ball_partitions(tree_of(noisy(0.0)))
    for labels in certain.values():
        np.testing.assert_array_equal(labels, certain["point"])


def test_each_bar_covers_all_data_once() -> None:
    bars = ball_figure(tree_of(noisy(0.2))).axes[0].patches
    widths: dict[int, float] = {}
    for bar in bars:
        row = round(bar.get_y() + bar.get_height() / 2)  # type: ignore[attr-defined]
        widths[row] = widths.get(row, 0) + bar.get_width()  # type: ignore[attr-defined]
    assert widths == dict.fromkeys(range(4), 19)
