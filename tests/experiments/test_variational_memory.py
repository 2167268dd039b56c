"""What the experiment on variational memory counts, and that its methods are the memories they are called after."""

import jax.numpy as jnp
import numpy as np

from probam.energies.autoencoder import Autoencoder, Network, encode
from probam.energies.variational import Variational
from probam.experiments.variational_memory import recalls, scored

STORED = jnp.asarray(np.random.default_rng(0).uniform(size=(5, 3)))


def _nearly_identity() -> Autoencoder:
    """Tanh of small numbers is the identity: codes are the patterns."""
    eye, small = jnp.eye(3), 1e-4
    encoder = Network(small * eye, jnp.zeros(3), jnp.concatenate([eye / small, 0 * eye], axis=1), jnp.zeros(6))
    return Autoencoder(
        encoder, Network(small * eye, jnp.zeros(3), eye / small, jnp.zeros(3)), jnp.zeros(3), jnp.ones(())
    )


def test_an_image_is_right_if_it_is_the_nearest_stored_one() -> None:
    moved = STORED.at[0].set(STORED[1]).at[2].add(1e-3)
    error, right = scored(moved, STORED)
    assert right == 0.8
    np.testing.assert_allclose(error, (np.sum((STORED[0] - STORED[1]) ** 2) + 3e-6) / 15)


def test_with_codes_that_are_the_pixels_recall_by_codes_is_recall_in_pixels() -> None:
    autoencoder = _nearly_identity()
    np.testing.assert_allclose(encode(autoencoder, STORED), STORED, atol=1e-6)
    memory = Variational(autoencoder, STORED, 0.05)
    methods = recalls(memory, STORED)
    queries = STORED + 0.02
    np.testing.assert_allclose(methods["codes"](queries), STORED, atol=1e-3)
    np.testing.assert_allclose(methods["pixels, distance"](queries), STORED, atol=1e-3)
    np.testing.assert_allclose(methods["no memory"](queries), queries, atol=1e-6)
