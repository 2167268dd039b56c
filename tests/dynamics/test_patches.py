"""Patches: cut and joined, completed where they are hidden, learned from images whose parts agree."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from probam.dynamics.patches import Completer, cut, hide, joined, patch_side, train, untrained
from probam.errors import InputError

RNG = np.random.default_rng(0)


def test_patches_are_parts_of_the_image_and_make_it_whole_again() -> None:
    images = RNG.normal(size=(3, 6, 4, 2))
    patches = cut(images, 2)
    assert patches.shape == (3, 6, 8)
    np.testing.assert_array_equal(patches[1, 3], images[1, 2:4, 2:4].reshape(-1))
    np.testing.assert_array_equal(joined(patches, (6, 4, 2)), images)


def test_images_that_cannot_be_cut_are_named() -> None:
    with pytest.raises(InputError, match="images: 29 x 28 pixels cannot be cut into square patches of 2 to 4 pixels"):
        patch_side((29, 28, 1))


def test_masks_hide_as_many_patches_of_each_image() -> None:
    masks = hide(jax.random.key(0), 50, 9, 4)
    np.testing.assert_array_equal(masks.sum(axis=1), 4)
    assert (masks.mean(axis=0) > 0.1).all()


def test_only_hidden_patches_change_and_what_stands_in_them_does_not_matter() -> None:
    patches = jnp.asarray(RNG.uniform(size=(5, 4, 6)))
    completer = untrained(jax.random.key(1), patches)
    hidden = hide(jax.random.key(2), 5, 4, 2)
    complete = jax.jit(Completer.complete)
    filled = complete(completer, patches, hidden)
    np.testing.assert_array_equal(filled[~hidden], patches[~hidden])
    assert not np.any(filled[hidden] == patches[hidden])
    other = jnp.where(hidden[..., None], 7.0, patches)
    np.testing.assert_array_equal(complete(completer, other, hidden), filled)
    energies = jax.jit(Completer.energies)(completer, patches, hidden)
    np.testing.assert_allclose(energies[:, 0], completer.block.energy(completer.layers(patches, hidden)), rtol=1e-12)
    assert np.all(np.diff(energies, axis=1) < 0)


def test_hidden_patches_are_learned_from_the_others() -> None:
    """All patches of an image have one grey value; its variance is the error without the block."""
    grey = RNG.uniform(size=(200, 1, 1)).astype(np.float32)
    patches = jnp.asarray(np.broadcast_to(grey, (200, 4, 2)))
    start = untrained(jax.random.key(3), patches, dim=8, num_heads=2, width=4, num_memories=4)
    trained, errors = train(jax.random.key(4), start, patches, num_updates=400, batch_size=32)
    assert errors.dtype == jnp.float32
    assert np.mean(errors[:10]) > 0.06
    assert np.mean(errors[-50:]) < 0.1 * grey.var()
    assert trained.weights.memories.shape == (4, 8)
