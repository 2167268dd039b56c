"""fit_clam: memories of separated groups, four kinds of label that differ as claim A6 says."""

import numpy as np
import pytest

from probam.errors import InputError
from probam.inference.clam.clustering import fit_clam, labels


def test_the_labels_are_different_maps() -> None:
    memories = np.array([[0.0], [1.0], [1.0]])
    result = labels(np.array([[0.45], [0.2], [1.4]]), memories, 5.0)
    np.testing.assert_array_equal(result.nearest, [0, 0, 1])
    np.testing.assert_array_equal(result.recalled, [1, 0, 1])  # 0.45 is nearest to 0 and recalled as 0.9965
    assert result.converged.all()
    assert len(result.attractors) == 2
    assert result.basin[0] == result.basin[2] != result.basin[1]
    np.testing.assert_allclose(result.attractors[result.basin[0], 0], 0.9965, atol=5e-5)


def test_weights_move_the_responsible_memory_only() -> None:
    memories = np.array([[0.0], [1.0]])
    result = labels(np.array([[0.4]]), memories, 3.0, np.array([0.1, 0.9]))
    assert (result.nearest[0], result.responsible[0]) == (0, 1)


def test_separated_groups_are_told_apart_in_the_units_of_the_data() -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], [20, 30, 25])
    means = np.array([[100.0, -50], [108, -50], [100, -42]])
    x = means[truth] + rng.normal(scale=0.5, size=(75, 2))
    fitted = fit_clam(x, 3, 0.5, restarts=3, num_epochs=150, seed=1)
    order = np.argsort(((fitted.memories[:, None] - means) ** 2).sum(-1).argmin(1))
    np.testing.assert_allclose(fitted.memories[order], [x[truth == k].mean(0) for k in range(3)], atol=0.05)
    np.testing.assert_array_equal(np.argsort(order)[fitted.labels.recalled], truth)
    assert fitted.losses.shape == (3, 150)
    again = fit_clam(x, 3, 0.5, restarts=3, num_epochs=150, seed=1)
    np.testing.assert_array_equal(again.memories, fitted.memories)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_components": 9}, "num_components: expected a whole number from 1 to 8"),
        ({"restarts": 0}, "restarts: expected"),
        ({"beta": -1.0}, "beta: expected"),
    ],
)
def test_wrong_settings_are_named(options: dict[str, float], message: str) -> None:
    chosen = {"num_components": 2, "beta": 1.0} | options
    with pytest.raises(InputError, match=message):
        fit_clam(np.arange(16.0).reshape(8, 2), **chosen)  # type: ignore[arg-type]
