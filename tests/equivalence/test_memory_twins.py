"""The energy of a memory is the negative log density of its NumPyro twin, and where there is none a text says why."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from probam.energies.clam import Clam
from probam.energies.composition import Composition
from probam.energies.hypercube import Hypercube
from probam.energies.predictive_coding import Decoder
from probam.energies.registry import MEMORIES
from probam.equivalence.memory_check import verify_memory
from probam.equivalence.memory_twins import twin_in_words
from probam.equivalence.twin import Density, twin
from tests.energies.memory_cases import WITH_TWIN, WITHOUT_TWIN


@pytest.mark.parametrize("name", WITH_TWIN)
def test_the_energy_is_the_negative_log_density(name: str) -> None:
    memory, points = WITH_TWIN[name]
    density = twin(memory)
    assert isinstance(density, Density)
    assert memory.energy is not None
    energies = np.asarray(jax.jit(memory.energy)(points))
    assert np.isfinite(energies).all()
    log_prob = jax.jit(density.distribution.log_prob)(jnp.asarray(points))
    np.testing.assert_allclose(log_prob, -density.scale * energies - density.constant, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", WITHOUT_TWIN)
def test_a_memory_without_a_density_says_why(name: str) -> None:
    reason = twin(WITHOUT_TWIN[name][0])
    assert isinstance(reason, str)
    assert len(reason.split()) > 8


def test_every_memory_has_a_twin_or_a_reason_of_its_own() -> None:
    unknown = twin.dispatch(object)
    assert [name for name, memory in MEMORIES.items() if twin.dispatch(memory) is unknown] == []
    words = {name: twin_in_words(memory) for name, memory in MEMORIES.items()}
    assert all(len(text) > 20 for text in words.values())
    without = {name.split(",")[0] for name in WITHOUT_TWIN} - {name.split(",")[0] for name in WITH_TWIN}
    assert {name for name, text in words.items() if text.startswith("none: ")} == without


def test_the_posterior_of_a_decoded_state_integrates_to_one() -> None:
    seen = {"observation": jnp.array([1.2]), "matrix": jnp.array([[0.8]]), "bias": jnp.array([0.1])}
    memory = Decoder(jnp.array([[1.0], [-2.0]]), **seen, noise=0.5, width=0.7, weights=jnp.array([1.0, 3.0]))
    density = twin(memory)
    assert isinstance(density, Density)
    grid = np.linspace(-8, 6, 2001)  # the trapezium rule converges exponentially for an analytic bump
    total = np.trapezoid(np.exp(-np.asarray(memory.energy(grid[:, None])) - float(density.constant)), grid)
    np.testing.assert_allclose(total, 1, rtol=1e-9)


def test_reasons_follow_the_parameters() -> None:
    assert "raise the exponents" in str(twin(Composition(jnp.array([[-1.5, 2.0]]))))
    assert "values -1 and 2" in str(twin(Hypercube(jnp.ones((1, 2)), None, -1.0, 2.0)))


def test_draws_of_a_twin_have_its_mean() -> None:
    density = twin(Clam(jnp.array([[0.0, 1.0], [4.0, -1.0]]), 0.5, jnp.array([1.0, 3.0])))
    assert isinstance(density, Density)
    draws = density.distribution.sample(jax.random.key(0), (4000,))
    error = np.std(draws, axis=0) / 4000**0.5
    assert np.all(np.abs(np.mean(draws, axis=0) - np.array([3.0, -0.5])) < 4 * error)


@pytest.mark.parametrize("name", ["spherical", "counts", "box"])
def test_verification_passes_where_a_memory_is_its_density(name: str) -> None:
    memory, points = WITH_TWIN[name]
    found = verify_memory(memory, points)
    assert all(check.passed for check in found.checks)
    names = {check.name for check in found.checks}
    assert names == {"energy"} | ({"force"} if name != "counts" else set()) | ({"update"} if name != "box" else set())


def test_verification_fails_for_an_energy_that_is_another_density() -> None:
    class Doubled(Clam):
        def energy(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch"]:
            return 2 * super().energy(states)

        def update(self, states: Float[ArrayLike, "*batch D"]) -> Float[Array, "*batch D"]:
            return 3 * super().update(states)

    _, points = WITH_TWIN["clam"]
    found = verify_memory(Doubled(points[:3], 0.5), points)
    assert [(check.name, check.passed) for check in found.checks] == [(n, False) for n in ("energy", "force", "update")]
    nothing = verify_memory(*WITHOUT_TWIN["sequences"])
    assert nothing.checks == []
    assert "has none: the couplings lead from a pattern to the next" in nothing.left_out[0]
