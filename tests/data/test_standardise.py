"""Units and back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from probam.data.standardise import identity, standardiser
from probam.data.table import as_table
from probam.errors import InputError

X = np.random.default_rng(3).gamma(2.0, 3.0, (50, 3)) * np.array([1.0, 1e-3, 40.0]) + np.array([0.0, 5.0, 1e6])


def test_standardised_columns_have_mean_zero_and_deviation_one() -> None:
    units = standardiser(as_table(X))
    z = units.apply(X)
    np.testing.assert_allclose(z.mean(axis=0), 0.0, atol=1e-9)
    np.testing.assert_allclose(z.std(axis=0), 1.0, rtol=1e-12)
    np.testing.assert_allclose(units.invert(z), X, rtol=1e-14)
    np.testing.assert_allclose(np.asarray(units.invert(units.apply(jnp.asarray(X)))), X, rtol=1e-14)


def test_the_log_jacobian_is_the_log_determinant_of_the_map() -> None:
    units = standardiser(as_table(X))
    jacobian = jax.jacobian(units.apply)(jnp.asarray(X[4]))
    np.testing.assert_allclose(units.log_jacobian(), np.linalg.slogdet(jacobian)[1], rtol=1e-12)
    assert identity(3).log_jacobian() == 0.0


def test_moments_of_single_precision_data_far_from_the_origin_are_right() -> None:
    x = (1e6 + np.arange(1000.0)[:, None] % 7).astype(np.float32)
    units = standardiser(as_table(x))
    assert units.center.dtype == units.scale.dtype == np.float32
    np.testing.assert_allclose(units.scale, np.std(np.arange(1000) % 7), rtol=1e-6)
    assert units.apply(x).dtype == np.float32


def test_the_identity_changes_nothing_and_a_constant_column_is_refused() -> None:
    np.testing.assert_array_equal(identity(3).apply(X), X)
    np.testing.assert_array_equal(identity(3).invert(X), X)
    assert identity(2, np.float32).scale.dtype == np.float32
    with pytest.raises(InputError, match="column 'x1' is constant"):
        standardiser(as_table([[1.0, 2.0], [3.0, 2.0]]))
