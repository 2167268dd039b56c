"""Memories on demand: what a method cost is its own, and the page tells every method's scores."""

from functools import partial

import numpy as np
import pytest
import xarray as xr

from probam.experiments.learners import DPMeans, dp_means, scored
from probam.experiments.on_demand import ON_DEMAND
from probam.experiments.own_process import alone, cost

LEARNERS = ["stream", "stream, 16 particles", "NUTS", "DP-means"]


def test_peak_memory_is_that_of_the_call_and_not_of_this_process() -> None:
    here = np.ones(2**24)  # 128 MiB that a process of its own does not have
    array, taken = alone(cost, partial(np.ones, 2**21))
    assert array.nbytes == 16 * 2**20 < here.nbytes
    assert 15.5 < taken.peak_mib < 24
    assert taken.cpu_seconds > 0


def test_memory_given_back_before_the_call_is_not_counted() -> None:
    np.ones(2**24).sum()
    assert cost(partial(np.ones, 10))[1].peak_mib < 16


def test_what_fails_in_a_process_of_its_own_fails_here() -> None:
    with pytest.raises(np.linalg.LinAlgError):
        alone(np.linalg.inv, np.zeros((2, 2)))


def test_dp_means_ends_where_every_datum_is_with_its_nearest_place_and_within_the_radius() -> None:
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 5, 140)
    x = rng.normal(scale=6, size=(5, 3))[truth] + rng.normal(size=(140, 3))
    radius = 4.0
    labels = dp_means(x, radius)
    places = np.stack([x[labels == k].mean(axis=0) for k in range(labels.max() + 1)])
    distances = np.linalg.norm(x[:, None] - places, axis=-1)
    np.testing.assert_array_equal(labels, distances.argmin(axis=1))
    assert distances.min(axis=1).max() <= radius


def test_scores_are_by_split_and_say_how_the_rows_are_shared() -> None:
    far = np.concatenate([np.zeros((6, 2)), np.full((2, 2), 50.0)])
    apart, together = scored(DPMeans(10.0), [(far, far), (np.zeros((8, 2)), far)], 0)
    assert (apart.memories, apart.holding, apart.largest) == (2.0, 2, 0.75)
    assert (together.memories, together.holding, together.largest) == (1.0, 1, 1.0)
    assert apart.seconds == together.seconds  # the first time is measured once
    assert np.isnan(apart.seconds_again)
    assert together.seconds_again > 0


def _tree() -> xr.DataTree:
    """Results as they could be; one method has no density."""
    dimensions = xr.Dataset(
        {
            "memories": (
                ("energy", "features", "repeat"),
                [[[10, 11], [300, 298]], [[10, 10], [10, 10]], [[10, 10], [10, 10]]],
            ),
            "ari": (("energy", "features", "repeat"), np.ones((3, 2, 2))),
        },
        coords={"energy": ["printed", "conditional", "collapsed"], "features": [2, 512]},
        attrs={"groups": 10, "rows": 300},
    )
    scores = {
        "memories": [[2.0, 2.0, 1.0], [2.09, 2.1, 2.2], [2.04, 2.0, 2.1], [7.0, 7.0, 7.0]],
        "holding": [[1.0, 2.0, 1.0], [2.0, 2.0, 2.0], [2.0, 2.0, 2.0], [7.0, 7.0, 7.0]],
        "largest": [[1.0, 0.7, 1.0], [0.6, 0.6, 0.6], [0.6, 0.6, 0.6], [0.3, 0.3, 0.3]],
        "log_density": [[-3.19, -3.1, -3.3], [-2.391, -2.30, -2.47], [-2.394, -2.31, -2.46], [np.nan] * 3],
        "ari": [[0.0, 0.1, 0.0], [0.57, 0.56, 0.58], [0.568, 0.5, 0.6], [0.4, 0.4, 0.4]],
        "seconds_again": [[0.02, 0.02, 0.9], [0.4, 0.4, 0.4], [6.5, 6.4, 6.6], [0.004] * 3],
        "seconds": [[3.0] * 3, [13.0] * 3, [21.0] * 3, [0.005] * 3],
        "peak_mib": [[231.0] * 3, [429.0] * 3, [567.0] * 3, [0.52] * 3],
    }
    batch = xr.Dataset(
        {name: (("set", "learner", "split"), [values]) for name, values in scores.items()},
        coords={"set": ["iris"], "learner": LEARNERS},
        attrs={"iris": "120 x 4"},
    )
    return xr.DataTree.from_dict({"dimensions": dimensions, "batch": batch})


def test_the_page_tells_scores_time_and_memory_of_every_method() -> None:
    tree = _tree()
    page = "".join(ON_DEMAND.tables(tree))
    for word in (*LEARNERS, "peak MiB", "held-out log density", "567", "−2.388 ± 0.043", "CPU seconds", "6.5"):
        assert word in page, word
    first, second = ON_DEMAND.findings(tree)
    assert first.verdict == "differs"
    assert first.measured is not None
    assert first.measured.value == 289
    assert first.measured.error == pytest.approx(1)
    assert "makes 2 memories (median), and in two of the splits one of them holds all rows" in second.text
    assert "stream, 16 particles has most, but less than two standard errors more than NUTS" in second.text
    assert "one pass takes 0.02 CPU seconds" in second.text
    assert "NUTS 6.5 (medians)" in second.text
    assert [drawing.name for drawing in ON_DEMAND.figures(tree)] == ["dimensions", "costs"]
