"""The parts of the experiment on lost dimensions: where a curve passes a level, and where data are named."""

import numpy as np

from probam.experiments.geometric_memorisation import condensation, crossing


def test_a_crossing_is_found_between_two_noises_and_the_largest_one_counts() -> None:
    noise = np.array([0.01, 0.1, 1.0, 10.0])
    assert np.isclose(crossing(noise, np.array([0.0, 0.0, 1.0, 1.0]), 0.5), 10**-0.5)
    assert np.isclose(crossing(noise, np.array([1.0, 0.0, 0.0, 1.0]), 0.25), 10**0.25)
    assert np.isnan(crossing(noise, np.ones(4), 0.5))


def test_a_noisy_copy_names_its_datum_when_it_carries_the_log_of_their_number() -> None:
    noise = condensation(700)
    information = sum(
        0.5 * count * np.log(1 + deviation**2 / noise**2) for deviation, count in ((1.0, 5), (0.3, 10), (0.01, 15))
    )
    assert np.isclose(information, np.log(700))
