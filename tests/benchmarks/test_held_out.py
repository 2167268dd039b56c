"""Held-out densities beside scikit-learn's: the splits, the bar, and a table that can go wrong."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.held_out import Comparison, compare_on, is_behind, main, splits, table


def test_halves_are_disjoint_and_depend_on_the_seed() -> None:
    """Each row is in at most one half."""
    x = np.arange(21.0)[:, None]
    halves = [(seen.ravel(), held_out.ravel()) for seen, held_out in splits(x, 3)]
    assert all(len(seen) == len(held_out) == 10 and not set(seen) & set(held_out) for seen, held_out in halves)
    assert len({tuple(seen) for seen, _ in halves}) == 3


def test_the_bar_is_a_margin_and_two_standard_errors() -> None:
    """A difference of -0.1 is behind where it is certain, and not where its error is as large."""
    steady, noisy = np.full(10, -0.1), -0.1 + np.resize([-0.5, 0.5], 10)
    steady[0] += 1e-6
    assert is_behind(steady)
    assert not is_behind(noisy)
    assert not is_behind(-0.01 + 0 * noisy + np.resize([-1e-6, 1e-6], 10))


def test_scores_are_log_densities_of_the_held_out_half() -> None:
    """Two groups far apart: close to the density that they were drawn from; peers are judged on the same rows."""
    rng = np.random.default_rng(0)
    x = np.where(np.arange(120)[:, None] % 2, 0.0, 20.0) + rng.normal(size=(120, 2))
    comparison = compare_on("groups", x, ("em",), number=2)
    truth = -np.log(2) - np.log(2 * np.pi) - 1
    np.testing.assert_allclose(comparison.scores["probam em"], truth, atol=0.5)
    for scores in comparison.scores.values():
        np.testing.assert_allclose(scores, truth, atol=1.5)
    assert "| groups | 120 x 2 |" in table([comparison])


def test_what_is_behind_is_marked() -> None:
    """The mark stands beside that difference alone."""
    peers = ("BayesianGaussianMixture(20)", "GaussianMixture, number by BIC")
    scores = {"probam em": np.array([0.0, 0.01]), peers[0]: np.array([1.0, 1.0]), peers[1]: np.array([-1.0, -1.0])}
    row = table([Comparison("iris", 150, 4, scores)]).splitlines()[2]
    assert row.startswith("| iris (chosen on) | 150 x 4 | 0.005 | -0.995 (0.005) **behind** | +1.005")


def test_a_folder_without_data_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command ends with 1 and names the files that it looked for."""
    assert main(["--data", str(tmp_path), "--sets", "iris"]) == 1
    assert f"iris: {tmp_path}/iris/data.npz is absent" in capsys.readouterr().err
