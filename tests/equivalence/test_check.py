"""A fitted mixture and its physical twin: found by the type of the bank, equal in every number, able to disagree."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from numpyro.distributions import Distribution

from probam.distributions.mixture import MemoryMixture
from probam.distributions.pairwise import Densities
from probam.distributions.student_t import EllipticalStudentT
from probam.distributions.von_mises_fisher import VonMisesFisher
from probam.dynamics.recall import recall
from probam.energies import clam
from probam.energies.arguments import Logs
from probam.equivalence.check import verify_mixture
from probam.equivalence.twin import Twin, independent_twin
from probam.equivalence.twins import physical_twin

N, K, D = 50, 4, 3
RNG = np.random.default_rng(5)
LOC = 2 * RNG.normal(size=(K, D))
SCALES = RNG.uniform(0.3, 1.0, size=(K, D))
FACTORS = RNG.normal(size=(K, D, D)) + 2 * np.eye(D)
DIRECTIONS = LOC / np.linalg.norm(LOC, axis=1, keepdims=True)
LOG_WEIGHTS = np.log(np.array([0.5, 0.25, 0.2, 0.05]))
X = LOC[RNG.integers(K, size=N)] + RNG.normal(size=(N, D))
ON_SPHERE = X / np.linalg.norm(X, axis=1, keepdims=True)

TWINS: dict[str, tuple[str, Distribution]] = {
    "one scale": ("CLAM", dist.Normal(LOC, jnp.array([0.7])).to_event(1)),
    "a scale for each memory": ("quadratic wells", dist.Normal(LOC, jnp.asarray(SCALES[:, :1])).to_event(1)),
    "diagonal": ("quadratic wells", dist.Normal(LOC, jnp.asarray(SCALES)).to_event(1)),
    "full": ("quadratic wells", dist.MultivariateNormal(jnp.asarray(LOC), scale_tril=jnp.asarray(np.tril(FACTORS)))),
    "student t": ("Student-t wells", EllipticalStudentT(jnp.array([0.7, 2.0, 5.0, 40.0]), LOC, np.tril(FACTORS))),
    "directions": ("spherical memories", VonMisesFisher(DIRECTIONS, jnp.array([0.5, 10.0, 300.0, 1e5]))),
}
ALONE: dict[str, tuple[Distribution, np.ndarray]] = {
    "asymmetric laplace": (dist.AsymmetricLaplace(LOC, jnp.asarray(SCALES), 1.5 * jnp.ones((K, D))).to_event(1), X),
    "cauchy": (dist.Cauchy(LOC, jnp.asarray(SCALES)).to_event(1), X),
    "log-normal": (dist.LogNormal(LOC, jnp.asarray(SCALES)).to_event(1), np.exp(X)),
    "kumaraswamy": (dist.Kumaraswamy(jnp.exp(LOC) + 0.5, jnp.asarray(SCALES) + 0.5).to_event(1), 1 / (1 + np.exp(X))),
}


def _points(name: str) -> jax.Array:
    return jnp.asarray(ON_SPHERE if name == "directions" else X)


def _mixture(bank: Distribution) -> MemoryMixture:
    return MemoryMixture(jnp.asarray(LOG_WEIGHTS), bank)


@pytest.mark.parametrize("name", TWINS)
def test_the_twin_is_the_negative_log_density_of_numpyros_mixture(name: str) -> None:
    expected, bank = TWINS[name]
    twin = physical_twin(_mixture(bank))
    assert twin is not None
    assert twin.name == expected
    x = _points(name)
    broadcast = dist.MixtureSameFamily(dist.CategoricalLogits(jnp.asarray(LOG_WEIGHTS)), bank).log_prob(x)
    np.testing.assert_allclose(-twin.scale * twin.energy(x) - twin.constant, broadcast, rtol=1e-10, atol=1e-10)


def test_one_scale_gives_beta_and_the_constant_of_a3() -> None:
    twin = physical_twin(_mixture(TWINS["one scale"][1]))
    assert twin is not None
    beta = 1 / (2 * 0.7**2)
    np.testing.assert_allclose(twin.scale, beta, rtol=1e-14)
    np.testing.assert_allclose(twin.constant, D / 2 * np.log(np.pi / beta), rtol=1e-14)


@pytest.mark.parametrize("name", TWINS)
def test_a_true_mixture_passes_every_check(name: str) -> None:
    checks = verify_mixture(_mixture(TWINS[name][1]), _points(name))
    assert [check.name for check in checks] == ["fast log density", "energy", "responsibilities", "recall", "force"]
    assert [check for check in checks if not check.passed] == []
    assert all(check.error <= check.tolerance for check in checks)


def test_single_precision_passes_with_wider_bounds() -> None:
    def single(tree: Any) -> Any:
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), tree)

    mixture = single(_mixture(TWINS["diagonal"][1]))
    checks = verify_mixture(mixture, jnp.asarray(X, jnp.float32))
    assert [check for check in checks if not check.passed] == []
    assert all(1e-8 < check.tolerance < 1 for check in checks)


def test_absent_memories_and_a_single_memory_pass() -> None:
    bank = TWINS["one scale"][1]
    weights = jnp.array([0.6, 0.4, 0.0, 0.0])
    checks = verify_mixture(MemoryMixture(jnp.log(weights), bank), jnp.asarray(X))
    alone = MemoryMixture(jnp.zeros(1), dist.Normal(jnp.asarray(LOC[:1]), 0.5).to_event(1))
    assert all(check.passed for check in (*checks, *verify_mixture(alone, jnp.asarray(X))))


def test_rows_off_the_sphere_by_rounding_do_not_matter() -> None:
    x = (1 + 1e-7) * _points("directions")
    assert all(check.passed for check in verify_mixture(_mixture(TWINS["directions"][1]), x))


@pytest.mark.parametrize("name", ALONE)
def test_a_bank_without_physics_is_checked_by_numpyro_and_differences_and_says_so(name: str) -> None:
    bank, x = ALONE[name]
    assert physical_twin(_mixture(bank)) is None
    density, score = verify_mixture(_mixture(bank), jnp.asarray(x))
    assert density.passed
    assert "NumPyro" in density.witnesses
    assert score.passed
    assert "no physical energy" in score.witnesses


def test_a_discrete_bank_has_no_score_to_check() -> None:
    bank = dist.GeometricLogits(jnp.asarray(LOC)).to_event(1)
    (check,) = verify_mixture(_mixture(bank), jnp.asarray(np.round(X**2)))
    assert check.passed
    assert check.name == "fast log density"


def test_kinks_are_left_out_of_the_differences_and_counted() -> None:
    x = X.copy()
    x[:5, 0] = LOC[0, 0] + 1e-7  # inside the step of the differences from the Laplace density's kink
    x[:5, 1:] = LOC[0, 1:] + 0.3
    _, score = verify_mixture(_mixture(ALONE["asymmetric laplace"][0]), jnp.asarray(x))
    assert score.passed
    assert "5 of 50 points left out" in score.relation


class _Heavier(MemoryMixture):
    """Says of itself what is not so: densities too large by a fifth of a nat."""

    def log_joints(self, x: Any) -> Any:
        return Densities(*(log_density + 0.2 for log_density in super().log_joints(x)))


class _Tilted(MemoryMixture):
    """The right number with the wrong derivative."""

    def log_joints(self, x: Any) -> Any:
        return super().log_joints(x + 0.1 * (x - jax.lax.stop_gradient(x)))


@pytest.mark.parametrize("name", TWINS)
def test_a_false_normaliser_fails(name: str) -> None:
    failed = {
        check.name for check in verify_mixture(_Heavier(LOG_WEIGHTS, TWINS[name][1]), _points(name)) if not check.passed
    }
    assert failed == {"fast log density", "energy"}


def test_a_false_derivative_fails() -> None:
    failed = [
        check.name
        for check in verify_mixture(_Tilted(LOG_WEIGHTS, TWINS["diagonal"][1]), jnp.asarray(X))
        if not check.passed
    ]
    assert failed == ["force"]
    bank, x = ALONE["asymmetric laplace"]
    assert [check.name for check in verify_mixture(_Tilted(LOG_WEIGHTS, bank), jnp.asarray(x)) if not check.passed] == [
        "score"
    ]


@pytest.fixture
def _door() -> Iterator[None]:
    """A newcomer's physics for skewed memories, wrong on purpose, registered and taken back."""

    @independent_twin.register(dist.AsymmetricLaplace)
    def _(base: dist.AsymmetricLaplace, _bank: Distribution, log_weights: jax.Array) -> Twin:
        of = {"memories": base.loc, "beta": 1.0, "weights": Logs(log_weights)}
        return Twin("a guess", lambda v: clam.energy(v, **of), None, None, jnp.ones(()), jnp.zeros(()))

    yield
    independent_twin.register(dist.AsymmetricLaplace, lambda *_: None)


@pytest.mark.usefixtures("_door")
def test_a_new_family_registers_its_twin_and_is_held_to_it() -> None:
    checks = verify_mixture(_mixture(ALONE["asymmetric laplace"][0]), jnp.asarray(X))
    assert [check.name for check in checks] == ["fast log density", "energy", "force"]
    assert [check.passed for check in checks] == [True, False, False]


@pytest.mark.parametrize("name", TWINS)
def test_recall_of_the_twin_ends_where_the_density_is_stationary(name: str) -> None:
    mixture = _mixture(TWINS[name][1])
    twin = physical_twin(mixture)
    assert twin is not None
    assert twin.update is not None
    ended = recall(twin.update, twin.energy, _points(name)[:7], max_steps=2000, retract=twin.retract).states
    score = jax.vmap(jax.grad(mixture.log_prob))(ended)
    if twin.retract is not None:
        score = score - jnp.sum(score * ended, axis=-1, keepdims=True) * ended
    np.testing.assert_allclose(score, 0, atol=1e-6 if name == "directions" else 1e-8)


_ASK_IN_A_FRESH_PROCESS = """
from probam.equivalence.twin import bank_twin
import jax.numpy as jnp, numpyro.distributions as dist
banks = dist.Normal(jnp.eye(2), 1.0).to_event(1), dist.Laplace(jnp.eye(2), 1.0).to_event(1)
print(*(bank_twin(bank, jnp.log(jnp.array([0.5, 0.5]))).name for bank in banks), sep=", ")
"""


def test_a_bank_has_its_twin_whatever_else_was_imported() -> None:
    run = subprocess.run([sys.executable, "-c", _ASK_IN_A_FRESH_PROCESS], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "CLAM, Laplace wells"
