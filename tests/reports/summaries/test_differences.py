"""What tells memories apart: the correlation ratio of a mixture, and rows that lie between memories."""

import numpy as np
import pytest
import xarray as xr

from probam.reports.summaries.differences import explained_variance, sureness


def _tree(mean: np.ndarray, sd: np.ndarray, weight: np.ndarray, confidence: np.ndarray | None = None) -> xr.DataTree:
    groups = {
        "/memory": xr.Dataset(
            {
                "mean": (("memory", "feature"), mean),
                "sd": (("memory", "feature"), sd),
                "weight": ("memory", weight),
            }
        )
    }
    if confidence is not None:
        groups["/partition"] = xr.Dataset({"confidence": ("datum", confidence)})
    return xr.DataTree.from_dict(groups)


def test_the_share_of_the_variance_between_memories_is_that_of_a_large_sample() -> None:
    rng = np.random.default_rng(0)
    mean = np.array([[0.0, 1.0, 5.0], [3.0, 1.0, 5.5], [9.0, 1.0, 4.0], [500.0, 500.0, 500.0]])
    sd, weight = rng.uniform(0.5, 2, (4, 3)), np.array([0.5, 0.3, 0.2, 0.0])
    explained = explained_variance(_tree(mean, sd, weight))
    assert explained is not None
    owner = rng.choice(4, 400_000, p=weight)
    x = rng.normal(mean[owner], sd[owner])
    np.testing.assert_allclose(explained, mean[owner].var(axis=0) / x.var(axis=0), atol=0.005)
    assert explained[1] == 0


@pytest.mark.parametrize("weight", [[1.0, 0.0], [0.5, 0.5]])
def test_one_memory_and_memories_of_unknown_width_explain_nothing(weight: list[float]) -> None:
    sd = np.ones((2, 1)) if weight[0] == 1 else np.full((2, 1), np.nan)
    assert explained_variance(_tree(np.array([[0.0], [4.0]]), sd, np.array(weight))) is None


def test_rows_between_memories_are_counted() -> None:
    found = sureness(_tree(np.zeros((1, 1)), np.ones((1, 1)), np.ones(1), np.array([1.0, 0.5, 0.59, 0.91])))
    assert found is not None
    assert found.mean == pytest.approx(0.75)
    assert found.num_doubtful == 2
    assert sureness(_tree(np.zeros((1, 1)), np.ones((1, 1)), np.ones(1))) is None
