"""Methods that group rows find groups that are plain to see, with the density that made them."""

import jax
import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.metrics import adjusted_rand_score

from probam.experiments.clusterers import METHODS, Split, grouped, settings_of

CENTRES = np.array([[6.0, 0.0], [-3.0, 5.0], [-3.0, -5.0]])


def _split() -> Split:
    rng = np.random.default_rng(8)
    labels = rng.permutation(np.arange(130) % 3)
    x = CENTRES[labels] + rng.normal(size=(130, 2))
    return Split(x[:90], x[90:], labels[:90], 3)


@pytest.mark.parametrize(
    "method",
    ["von Mises-Fisher", "BayesianGaussianMixture", pytest.param("Dirichlet process", marks=pytest.mark.slow)],
)
def test_groups_far_apart_are_found_with_their_density(method: str) -> None:
    split, setting = _split(), settings_of(method)[0]
    with jax.enable_x64(True):
        found = grouped(method, split, 0, 2, setting)
    assert adjusted_rand_score(split.classes, found.labels) > 0.95
    truth = np.mean([multivariate_normal(centre, np.eye(2)).pdf(split.held_out) for centre in CENTRES], axis=0)
    if method == "von Mises-Fisher":  # a density of directions
        assert np.isnan(found.log_density)
    else:
        assert found.log_density == pytest.approx(np.log(truth).mean(), abs=0.5)  # one group: 1.8 below


def test_every_method_tries_as_many_settings() -> None:
    assert {len(settings_of(method)) for method in METHODS} == {4}
