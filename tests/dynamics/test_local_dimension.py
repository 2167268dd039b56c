"""Local dimension of a memory: along a plane of data, at a recalled memory, and what has none."""

import jax.numpy as jnp
import numpy as np
import pytest

from probam.dynamics.local_dimension import curvatures, local_dimension
from probam.energies.clam import Clam
from probam.energies.hopfield import Network
from probam.energies.supports import Box
from probam.errors import InputError


def test_data_on_a_plane_have_two_directions_until_each_is_recalled_alone() -> None:
    x, y = np.meshgrid(np.arange(-3, 3.1, 0.5), np.arange(-3, 3.1, 0.5))
    plane = jnp.asarray(np.stack([x.ravel(), y.ravel(), 0 * x.ravel()], axis=1))
    point = jnp.array([[0.04, 0.02, 0.05], [0.0, 0.0, 0.0]])
    assert local_dimension(Clam(plane, beta=2.0), point).tolist() == [2, 2]
    assert local_dimension(Clam(plane, beta=60.0), point).tolist() == [0, 0]
    np.testing.assert_allclose(curvatures(Clam(plane, beta=60.0), point), 2, atol=0.01)


def test_memories_without_real_states_or_an_update_are_refused() -> None:
    with pytest.raises(InputError, match="box has no update of real vectors"):
        local_dimension(Box(np.zeros((2, 3)), 1.0), np.zeros(3))
    with pytest.raises(InputError, match="states: expected -1 and 1 only"):
        curvatures(Network.store(np.array([[1.0, -1.0]])), np.zeros(2))
