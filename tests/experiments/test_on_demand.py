"""Memories on demand: what a method cost is its own, and the page tells every method's scores."""

from functools import partial

import numpy as np
import pytest
import xarray as xr

from probam.experiments.learners import dp_means
from probam.experiments.on_demand import ON_DEMAND
from probam.experiments.own_process import alone, cost
from probam.reports.page import number

LEARNERS = ["stream", "stream, 16 particles", "NUTS", "DP-means"]


def test_peak_memory_is_that_of_the_call_and_not_of_this_process() -> None:
    here = np.ones(2**24)  # 128 MiB that a process of its own does not have
    array, taken = alone(cost, partial(np.ones, 2**21))
    assert array.nbytes == 16 * 2**20 < here.nbytes
    assert 15.5 < taken.peak_mib < 24
    assert taken.seconds > 0


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


def _tree() -> xr.DataTree:
    """Results as they could be; one method has no density."""
    dimensions = xr.Dataset(
        {
            "memories": (("energy", "features"), [[10, 300], [10, 10], [10, 10]]),
            "ari": (("energy", "features"), np.ones((3, 2))),
        },
        coords={"energy": ["printed", "conditional", "collapsed"], "features": [2, 512]},
        attrs={"groups": 10, "rows": 300},
    )
    scores = {
        "memories": [1.0, 2.09, 2.04, 7.0],
        "log_density": [-3.19, -2.391, -2.394, np.nan],
        "ari": [0.0, 0.57, 0.568, 0.4],
        "seconds_again": [0.02, 0.4, 6.5, 0.004],
        "seconds": [3.0, 13.0, 21.0, 0.005],
        "peak_mib": [231.0, 429.0, 567.0, 0.52],
    }
    batch = xr.Dataset(
        {name: (("set", "learner"), [values]) for name, values in scores.items()},
        coords={"set": ["iris"], "learner": LEARNERS},
        attrs={"iris": "120 x 4"},
    )
    return xr.DataTree.from_dict({"dimensions": dimensions, "batch": batch})


def test_the_page_tells_scores_time_and_memory_of_every_method() -> None:
    tree = _tree()
    (page,) = ON_DEMAND.tables(tree)
    for word in (*LEARNERS, "peak MiB", "held-out log density", "567", number(-2.391, 4), "6.5"):
        assert word in page, word
    first, second = ON_DEMAND.findings(tree)
    assert first.verdict == "differs"
    assert "one pass makes one memory" in second.text
    assert f"the best, stream, 16 particles, has {number(-2.391, 4)}" in second.text
    assert "NUTS takes 6.5" in second.text
    assert [drawing.name for drawing in ON_DEMAND.figures(tree)] == ["dimensions", "costs"]
