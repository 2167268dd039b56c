"""What the experiments on memories compute, against closed forms; every experiment that a memory names is there."""

import numpy as np
import pytest

from probam.energies.clam import Clam
from probam.energies.epanechnikov import Epanechnikov
from probam.energies.registry import MEMORIES
from probam.experiments.emergent_memories import measured, starts_around
from probam.experiments.experiment import experiments
from probam.experiments.random_features import breaking_distance, slopes

LINE = np.array([[0.0], [1.0], [2.0]])


def test_every_experiment_that_a_memory_names_is_there() -> None:
    named = {memory.card.experiment for memory in MEMORIES.values()} - {""}
    assert named <= set(experiments())
    assert len(named) >= 7


def test_on_a_line_two_pairs_emerge_and_the_middle_pattern_is_kept() -> None:
    """Each pattern reaches the next but not the one after: pairs have their means, all three have the middle one."""
    starts = starts_around(np.random.default_rng(0), LINE, 2**0.5, 200)
    assert len(starts) == 3 + 3 + 200
    assert np.all(np.min(np.abs(starts - LINE.T), axis=1) <= 2**0.5)
    emergent, kept, exact, nats = measured(Epanechnikov(LINE, 1.0), LINE, starts, 1.0)
    assert emergent == 2
    assert kept == exact == pytest.approx(1 / 3)
    at_patterns = np.log([0 + 1 + 0.5, 0.5 + 1 + 0.5, 0.5 + 1]).mean()
    at_means = np.log(2 * (1 - 0.125))
    assert nats == pytest.approx(at_means - at_patterns)


def test_nothing_emerges_from_gaussian_wells_far_apart_and_starts_out_of_reach_do_not_count() -> None:
    starts = np.array([[0.1], [1.1], [1.9]])
    assert measured(Clam(LINE, 40.0), LINE, starts, 1.0)[0] == 0
    assert measured(Epanechnikov(LINE, 50.0), LINE, np.array([[0.1], [0.5], [1.5]]), 1.0)[0] == 0


def test_a_slope_is_that_of_the_power_that_made_the_errors() -> None:
    counts = 2 ** np.arange(4, 12)
    noise = np.exp(0.05 * np.random.default_rng(0).normal(size=(8, 30)))
    slope, error = slopes(counts, 3 * counts[:, None] ** -0.5 * noise)
    assert abs(slope + 0.5) < 4 * error  # fails once in 16,000; the seed is fixed
    assert 1e-4 < error < 0.01


def test_recall_breaks_where_a_line_crosses_one_half() -> None:
    distances = np.array([1.0, 2.0, 3.0])
    assert breaking_distance(distances, np.array([1.0, 0.75, 0.25])) == 2.5
    assert breaking_distance(distances, np.array([0.4, 0.2, 0.1])) == 1.0
    assert breaking_distance(distances, np.array([1.0, 0.9, 0.6])) == np.inf
