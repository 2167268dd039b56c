"""The parts of the experiment on predictive coding: Hopfield recall of a query with zeros, and the exact case."""

import numpy as np
from scipy.special import softmax

from probam.experiments.image_completion import hidden_error
from probam.experiments.predictive_coding import by_hopfield, gap_to_the_conditional


def test_a_query_is_read_at_the_beta_with_the_least_error() -> None:
    rng = np.random.default_rng(0)
    stored, images, hidden = rng.uniform(size=(6, 4)), rng.uniform(size=(3, 4)), np.arange(4) >= np.full((3, 1), 2)
    filled = by_hopfield(stored, images, hidden)
    np.testing.assert_array_equal(filled[:, :2], images[:, :2])
    errors = []
    for beta in (0.3, 1.0, 3.0, 10.0, 100.0):
        read = softmax(beta * np.where(hidden, 0, images) @ stored.T, axis=1) @ stored
        errors.append(float(np.mean((read - images)[hidden] ** 2)))
    np.testing.assert_allclose(hidden_error(filled, images, hidden), min(errors))


def test_one_linear_layer_completes_by_the_conditional_mean() -> None:
    assert 0 < gap_to_the_conditional(np.random.default_rng(1)) < 1e-9
