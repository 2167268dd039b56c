"""What holds for every energy: no three-dimensional arrays, and a program for CUDA."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from probam.energies import clam, continuous_hopfield, creation, quadratic, spherical
from probam.energies.wells import dot

Q, K, D = 64, 7, 5
RNG = np.random.default_rng(0)
QUERIES, MEMORIES = RNG.normal(size=(Q, D)), RNG.normal(size=(K, D))
DIRECTIONS = MEMORIES / np.linalg.norm(MEMORIES, axis=-1, keepdims=True)
WEIGHTS, STIFFNESS = RNG.dirichlet(np.ones(K)), RNG.gamma(2.0, size=(K, D))
COUNTS = np.arange(1.0, K + 1)
MATRICES = STIFFNESS[:, :, None] * np.eye(D)

CASES = {
    f"{module.__name__.rpartition('.')[2]}-{name}-{label}": (getattr(module, name), arguments)
    for module, names, label, arguments in (
        (clam, ("energy", "responsibilities", "update", "nearest"), "", (1.2, WEIGHTS)),
        (continuous_hopfield, ("energy", "responsibilities", "update"), "", (1.2,)),
        (quadratic, ("energy", "responsibilities", "update"), "diagonal", (STIFFNESS, WEIGHTS)),
        (quadratic, ("energy", "responsibilities", "update"), "full", (MATRICES, WEIGHTS)),
        (spherical, ("energy", "responsibilities", "update"), "", (STIFFNESS[:, 0], WEIGHTS)),
        (creation, ("exact", "exact_probabilities", "collapsed", "force", "update"), "", (COUNTS, 1.2, 0.4, 0.9, 0.2)),
    )
    for name in names
}


def call(case: str) -> Any:
    function, arguments = CASES[case]
    memories = DIRECTIONS if case.startswith("spherical") else MEMORIES
    parameters = () if "nearest" in case else arguments
    return lambda queries: function(queries, memories, *parameters)


@pytest.mark.parametrize("case", CASES)
def test_no_array_has_one_entry_for_each_query_memory_and_coordinate(case: str) -> None:
    def sizes(jaxpr: Any) -> Iterator[int]:
        for equation in jaxpr.eqns:
            yield from (variable.aval.size for variable in equation.outvars)
            for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda value: hasattr(value, "jaxpr")):
                yield from sizes(inner.jaxpr) if hasattr(inner, "jaxpr") else ()

    assert max(sizes(jax.make_jaxpr(call(case))(QUERIES).jaxpr)) < Q * K * D


@pytest.mark.parametrize("case", CASES)
def test_every_function_lowers_for_cuda(case: str) -> None:
    exported = jax.export.export(jax.jit(call(case)), platforms=("cuda",))(QUERIES)
    assert exported.platforms == ("cuda",)


def test_products_are_asked_for_at_full_precision() -> None:
    text = str(jax.make_jaxpr(dot)(jnp.ones((3, 4)), jnp.ones((4, 5))))
    assert "precision=(Precision.HIGHEST, Precision.HIGHEST)" in text
