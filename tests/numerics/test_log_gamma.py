"""Ratios of Gamma functions on the host, at arguments where differences of logs lose their digits."""

import mpmath
import numpy as np
import pytest

from probam.numerics.log_gamma import digamma_difference, log_rising, log_rising_ratio, trigamma_difference

LOW = np.array([1e-9, 0.3, 1.0, 24.5, 25.5, 1e3, 1e9, 1e15])


@pytest.mark.parametrize("rise", [0.0, 1e-12, 0.5, 1.0, 7.0, 1e4, 1e9])
def test_differences_at_any_size_have_the_digits_of_mpmath(rise: float) -> None:
    with mpmath.workdps(60):
        pairs = [(mpmath.mpf(float(a)), mpmath.mpf(rise)) for a in LOW]
        logs = [float(mpmath.loggamma(a + h) - mpmath.loggamma(a)) for a, h in pairs]
        first = [float(mpmath.psi(0, a + h) - mpmath.psi(0, a)) for a, h in pairs]
        second = [float(mpmath.psi(1, a) - mpmath.psi(1, a + h)) for a, h in pairs]
    got = [log_rising(float(a), np.asarray(rise)) for a in LOW]
    np.testing.assert_allclose(got, logs, rtol=2e-14, atol=1e-14)
    np.testing.assert_allclose(digamma_difference(LOW, rise), first, rtol=2e-14)
    np.testing.assert_allclose(trigamma_difference(LOW, rise), second, rtol=2e-14)


@pytest.mark.parametrize("d", [1e-12, 0.3, 0.999])
@pytest.mark.parametrize("steps", [0, 1, 30, 10**6])
def test_the_ratio_of_rising_factorials_keeps_its_digits_however_close_to_one(steps: int, d: float) -> None:
    with mpmath.workdps(60):
        exact = [
            float(mpmath.log(mpmath.rf(mpmath.mpf(float(a)) + d, steps) / mpmath.rf(mpmath.mpf(float(a)), steps)))
            for a in LOW
        ]
    np.testing.assert_allclose([log_rising_ratio(float(a), d, steps) for a in LOW], exact, rtol=2e-14)
