"""Registered dataclasses: structures by type, leaves and static fields, rebuilding past the checks."""

from collections.abc import Callable
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from probam.pytrees import pytree


@pytree
@dataclass(frozen=True)
class Straight:
    slope: float
    power: int = field(default=1, metadata={"static": True})

    def __post_init__(self) -> None:
        if self.slope <= 0:
            raise ValueError("slope")


@pytree
@dataclass(frozen=True)
class Bent:
    slope: float
    power: int = field(default=1, metadata={"static": True})


def test_structures_of_different_types_differ() -> None:
    structure: Callable[[object], object] = jax.tree.structure
    assert structure(Straight(2.0)) != structure(Bent(2.0))
    assert structure(Straight(2.0)) == structure(Straight(3.0))
    assert structure(Straight(2.0)) != structure(Straight(2.0, power=2))


def test_static_fields_choose_the_program_and_leaves_are_mapped() -> None:
    traces = []

    @jax.jit
    def value(line: Straight) -> jax.Array:
        traces.append(line.power)
        return line.slope * jnp.arange(3.0) ** line.power

    for line in (Straight(2.0), Straight(3.0), Straight(3.0, power=2)):
        np.testing.assert_allclose(value(line), line.slope * np.arange(3.0) ** line.power)
    assert traces == [1, 2]
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(Straight(2.0))]
    assert paths == [".slope"]


def test_a_gradient_may_hold_what_the_class_itself_refuses() -> None:
    with pytest.raises(ValueError, match="slope"):
        Straight(-1.0)
    gradient = jax.grad(lambda line: -3 * line.slope)(Straight(2.0))
    assert isinstance(gradient, Straight)
    assert float(gradient.slope) == -3
