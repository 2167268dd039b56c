"""The forty fits are what they say they are, and the tables count mistakes."""

from collections import Counter

import numpy as np
import pytest

from benchmarks.judged import WRONGS, Case, all_cases
from benchmarks.verdicts import Judged, alarm_table, mistakes, verdict_table

CASES = all_cases()


def test_there_are_twenty_right_fits_and_two_of_each_wrong_with_data_of_their_own() -> None:
    assert Counter(case.wrong for case in CASES) == Counter({"": 20} | dict.fromkeys(WRONGS, 2))
    data = [case.data(case.rng()) for case in CASES]
    assert all(len(x) == 300 for x in data)
    assert len({x.tobytes() for x in data}) == len(CASES)
    np.testing.assert_array_equal(data[3], CASES[3].data(CASES[3].rng()))


def case(words: str) -> Case:
    return next(case for case in CASES if case.words == words)


def test_groups_are_as_far_apart_and_as_long_as_their_words_say() -> None:
    thin = case("thin groups, full")
    x = thin.data(thin.rng())
    for k in range(2):
        sd = np.sqrt(np.linalg.eigvalsh(np.cov(x[k::2].T)))
        assert sd.max() == pytest.approx(1, rel=0.2)
        assert sd.max() / sd.min() == pytest.approx(30, rel=0.25)
    assert np.linalg.norm(x[::2].mean(axis=0) - x[1::2].mean(axis=0)) > 6


def test_directions_have_the_mean_cosine_of_their_law() -> None:
    """A von Mises-Fisher law in four dimensions has mean cosine I_2 / I_1 of its concentration: .9260 at 20."""
    x = case("directions").data(case("directions").rng())
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1)
    cosines = np.r_[x[::2, 0], x[1::2, 1]]
    assert cosines.mean() == pytest.approx(0.9260, abs=5 * cosines.std() / np.sqrt(300))


def test_mistakes_are_counted_and_marked() -> None:
    right, wrong = CASES[0], CASES[-1]
    judged = [
        Judged(right, "good", (), 1.0),
        Judged(right, "warning", ("step limit",), 1.0),
        Judged(wrong, "good", (), 2.0),
        Judged(wrong, "problem", ("one chain",), 1.0),
    ]
    assert mistakes(judged) == (1, 1)
    lines = verdict_table(judged).splitlines()
    assert lines[0].startswith("2 wrong fits, 1 of them called good; 2 right fits, 1 of them not called good")
    assert [("**" in line) for line in lines[-4:]] == [False, True, True, False]
    assert "| - | **caution** | step limit | 1 |" in lines[-3]


def test_shares_of_p_values_are_listed() -> None:
    table = alarm_table({("a model", "em"): [0.001, 0.02, 0.1, 0.5]})
    assert table.splitlines()[-1] == "| a model | em | 4 | 25.0% | 50.0% | 75.0% |"
