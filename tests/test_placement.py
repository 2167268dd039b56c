"""Sizes of blocks, and what goes side by side, on this machine and laid out for a GPU.

``tests/fits/test_gpu_layout.py`` holds the numbers of all engines to be the same.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from probam.compiled import compiler_options
from probam.energies.large_bank import step
from probam.inference.common.coordinates import Coordinates
from probam.inference.em.steps import block_rows, expectation
from probam.models.gaussian import Gaussian
from probam.models.mixture import mixture
from probam.models.weights import weight_prior
from probam.placement import Device, device, each, found, laid_out_for, numbers_at_once

RNG = np.random.default_rng(0)
ROWS = np.concatenate([RNG.normal(-2, 1, (30, 2)), RNG.normal(3, 0.5, (21, 2))])
MODEL = mixture(ROWS, family=Gaussian("diagonal"), weights=weight_prior("dirichlet"), num_components=2)

SMALL = Device("gpu", memory=32 * 8 * 600)
"""Work of at most 600 numbers at a time."""


def test_sums_of_em_do_not_depend_on_the_size_of_blocks() -> None:
    """A GPU of little memory has several blocks, one of much memory takes all rows at once."""
    x = jnp.asarray(np.random.default_rng(1).normal(size=(700, 2)))
    params = Coordinates(MODEL).constrain(Coordinates(MODEL).zeros)
    sums = []
    for there in (SMALL, Device("gpu")):
        with laid_out_for(there):
            assert (block_rows(MODEL, x) < len(x)) == (there == SMALL)
            sums.append(jax.jit(expectation)(MODEL, params, x, jnp.asarray([0.5, 1.0])))
    for in_blocks, at_once in zip(*map(jax.tree.leaves, sums), strict=True):
        np.testing.assert_allclose(in_blocks, at_once, rtol=1e-12)


def test_a_block_of_queries_and_memories_follows_the_device() -> None:
    queries, memories = RNG.normal(size=(60, 3)), RNG.normal(size=(50, 3))
    whole = step(queries, memories, 0.7)
    with laid_out_for(SMALL):  # 24 at a time
        blocks = step(queries, memories, 0.7)
    np.testing.assert_allclose(blocks.update, whole.update, rtol=1e-12)
    np.testing.assert_allclose(blocks.energy, whole.energy, rtol=1e-12)


def test_programs_of_one_layout_are_not_those_of_another() -> None:
    sizes = jax.jit(lambda x: x + numbers_at_once(3))
    before = int(sizes(0))
    with laid_out_for(SMALL):
        assert int(sizes(0)) == SMALL.numbers == 600
        with laid_out_for(Device("cpu")):
            assert int(sizes(0)) == 3
        assert int(sizes(0)) == 600
    assert int(sizes(0)) == before == (3 if found().is_cpu else found().numbers)
    assert device() == found()


@pytest.mark.parametrize(("numbers", "together"), [(1, 7), (85, 7), (300, 2), (10**9, 1)])
def test_as_many_items_go_side_by_side_as_the_device_has_room_for(numbers: int, together: int) -> None:
    """Fewer than all of them make a loop, a remainder of them stands behind it."""
    items = np.arange(14.0).reshape(7, 2)
    with laid_out_for(SMALL):
        program = jax.make_jaxpr(lambda items: each(jnp.sum, items, numbers=numbers))(items)
        np.testing.assert_array_equal(each(jnp.sum, items, numbers=numbers), items.sum(axis=1))
    loops = [equation.params["length"] for equation in program.eqns if equation.primitive.name == "scan"]
    assert loops == ([] if together == 7 else [7 // together])


def test_on_a_cpu_items_go_one_by_one_or_as_many_together_as_it_is_told() -> None:
    items = np.arange(14.0).reshape(7, 2)

    def program(on_cpu: int | None) -> str:
        return str(jax.make_jaxpr(lambda items: each(jnp.sum, items, numbers=1, on_cpu=on_cpu))(items))

    def expected(size: int | None) -> str:
        return str(jax.make_jaxpr(lambda items: jax.lax.map(jnp.sum, items, batch_size=size))(items))

    with laid_out_for(Device("cpu")):
        assert program(None) == expected(None)
        assert program(3) == expected(3)


def test_a_cpu_has_its_own_compiler_options_and_a_device_its_own_memory() -> None:
    assert found().is_cpu == (jax.devices()[0].platform == "cpu")
    assert (compiler_options() is None) == (not found().is_cpu)
    assert Device("gpu", memory=10).numbers == 1
    with jax.default_device(jax.devices("cpu")[0]):
        assert found() == Device("cpu")
