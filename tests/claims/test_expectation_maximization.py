"""The free energy of A10."""

import jax.numpy as jnp
import numpy as np

from probam.claims.mixtures.expectation_maximization import free_energy
from probam.energies import clam


def test_the_free_energy_takes_one_query_or_any_number_of_leading_axes_as_the_energy_does() -> None:
    rng = np.random.default_rng(0)
    queries, memories, beta = jnp.asarray(rng.normal(size=(2, 4, 3))), jnp.asarray(rng.normal(size=(5, 3))), 1.3
    shares = jnp.asarray(rng.dirichlet(np.ones(5), size=(2, 4)))
    all_at_once = free_energy(queries, shares, memories, jnp.asarray(beta))
    assert all_at_once.shape == clam.energy(queries, memories, beta).shape == (2, 4)
    one = free_energy(queries[1, 2], shares[1, 2], memories, jnp.asarray(beta))
    assert one.shape == ()
    np.testing.assert_allclose(one, all_at_once[1, 2], rtol=1e-14)
