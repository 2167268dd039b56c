"""What holds for every energy: no three-dimensional arrays, and a program for CUDA."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from probam.energies import clam, continuous_hopfield, creation, quadratic, spherical
from probam.energies.arguments import Logs
from probam.energies.wells import dot
from probam.errors import InputError

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


@pytest.mark.parametrize("module", [clam, quadratic, spherical])
def test_weights_may_be_given_by_logs_that_no_float_could_hold(module: Any) -> None:
    memories = DIRECTIONS if module is spherical else MEMORIES
    shape = 1.2 if module is clam else STIFFNESS[:, 0]
    logs = np.append(np.log(WEIGHTS[:-1]), -np.inf)
    for name in ("energy", "responsibilities", "update"):
        function = jax.jit(getattr(module, name))
        wanted = function(QUERIES, memories, shape, np.append(WEIGHTS[:-1], 0.0))
        np.testing.assert_allclose(function(QUERIES, memories, shape, Logs(logs)), wanted, rtol=1e-12, atol=1e-13)
        tiny = function(QUERIES, memories, shape, Logs(logs - 1e4))
        np.testing.assert_allclose(
            tiny - (1e4 / (1.2 if module is clam else 1) if name == "energy" else 0), wanted, atol=1e-10
        )
    slope = jax.jit(jax.grad(lambda values: module.energy(QUERIES, memories, shape, Logs(values)).sum()))(logs)
    assert np.isfinite(slope).all()
    for bad in (np.full(K, -np.inf), np.full(K, np.nan), np.append(logs[:-1], np.inf)):
        with pytest.raises(InputError, match="weights: expected logs below infinity"):
            module.energy(QUERIES, memories, shape, Logs(bad))
    with pytest.raises(InputError, match="weights: expected one for each of the 7 memories"):
        module.energy(QUERIES, memories, shape, Logs(logs[:-1]))


@pytest.mark.parametrize("case", CASES)
def test_every_function_lowers_for_cuda(case: str) -> None:
    exported = jax.export.export(jax.jit(call(case)), platforms=("cuda",))(QUERIES)
    assert exported.platforms == ("cuda",)


def test_products_are_asked_for_at_full_precision() -> None:
    text = str(jax.make_jaxpr(dot)(jnp.ones((3, 4)), jnp.ones((4, 5))))
    assert "precision=(Precision.HIGHEST, Precision.HIGHEST)" in text
