"""Fits that the tests of this room compare."""

import pytest

from probam.fits.fitted import Fit
from tests.comparison.exact_fits import one_memory


@pytest.fixture(scope="module")
def fits() -> dict[str, Fit]:
    return {
        "wide": one_memory(4.0, 1.0, seed=1),
        "right": one_memory(1.0, 2.0),
        "point": one_memory(1.0, 2.0, engine="em"),
    }
