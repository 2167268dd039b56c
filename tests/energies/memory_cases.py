"""One generic instance of every memory, with points where it can be evaluated and patterns that it stores."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from probam.energies.assignments import Assignments
from probam.energies.attention import Attention
from probam.energies.bayesian_predictive_coding import BayesianPredictiveCoding
from probam.energies.clam import Clam
from probam.energies.composition import Composition
from probam.energies.consolidated import Consolidated
from probam.energies.continuous_hopfield import ContinuousHopfield, CosineHopfield
from probam.energies.counts import Counts
from probam.energies.creation import Creation
from probam.energies.dense import Network as Dense
from probam.energies.diffusion import Diffusion
from probam.energies.energy_transformer import EnergyTransformer
from probam.energies.epanechnikov import Epanechnikov
from probam.energies.generalized_normal import GeneralizedNormal, Radial
from probam.energies.hopfield import Network as Hopfield
from probam.energies.hypercube import Hypercube
from probam.energies.lagrangians import LayerNorm
from probam.energies.laplace import Laplace
from probam.energies.layered_sequences import LayeredSequence
from probam.energies.memory import Memory
from probam.energies.positive_features import PositiveFeatures
from probam.energies.predictive_coding import Decoder
from probam.energies.predictive_hierarchy import PredictiveCoding
from probam.energies.predictive_layers import Layers
from probam.energies.quadratic import Quadratic
from probam.energies.random_features import RandomFeatures
from probam.energies.sequences import Sequence
from probam.energies.sparse_distributed import SparseDistributed
from probam.energies.spherical import Spherical
from probam.energies.streamed_assignments import StreamedAssignments
from probam.energies.student_t import StudentT
from probam.energies.supports import Ball, Box, Levy
from probam.energies.timed_sequences import TimedSequence
from probam.energies.two_layer import Network as TwoLayer
from probam.energies.two_layer import modern_hopfield
from probam.energies.universal import Universal
from probam.energies.variational import Variational

N, K, D = 40, 4, 3
RNG = np.random.default_rng(3)
LOC = 2 * RNG.normal(size=(K, D))
WEIGHTS = np.array([0.7, 1.5, 0.2, 2.6])
RATES = RNG.uniform(0.4, 1.5, size=(K, D))
POINTS = LOC[RNG.integers(K, size=N)] + RNG.normal(size=(N, D))
DIRECTIONS = LOC / np.linalg.norm(LOC, axis=1, keepdims=True)
ON_SPHERE = POINTS / np.linalg.norm(POINTS, axis=1, keepdims=True)
_ROOT = RNG.normal(size=(K, D, D))
MATRICES = _ROOT @ np.swapaxes(_ROOT, 1, 2) + np.eye(D)
FIELDS = RNG.normal(size=(K, D))
BITS = RNG.integers(2, size=(N, D)).astype(float)
PARTS = RNG.dirichlet(np.ones(D), size=N)
SIGNS = RNG.choice([-1.0, 1.0], size=(3, 40))
HOST = RNG.normal(size=(2, D))
SHARES = np.random.default_rng(4).dirichlet(np.ones(K), size=N)

WITH_TWIN: dict[str, tuple[Memory, np.ndarray]] = {
    "clam": (Clam(LOC, 0.6, WEIGHTS), POINTS),
    "quadratic": (Quadratic(LOC, RATES, WEIGHTS), POINTS),
    "quadratic, one stiffness each": (Quadratic(LOC, RATES[:, 0], WEIGHTS), POINTS),
    "quadratic, full": (Quadratic(LOC, MATRICES, WEIGHTS), POINTS),
    "student_t": (StudentT(LOC, RATES, np.array([1.0, 3.0, 5.0, 20.0]), WEIGHTS), POINTS),
    "student_t, full": (StudentT(LOC, MATRICES, 4.0, WEIGHTS), POINTS),
    "laplace": (Laplace(LOC, RATES, WEIGHTS), POINTS),
    "generalized_normal": (GeneralizedNormal(LOC, RATES, 1.6, WEIGHTS), POINTS),
    "radial": (Radial(LOC, RATES[:, 0], 1.0, WEIGHTS), POINTS),
    "radial, squares": (Radial(LOC, RATES[:, 0], 2.0, WEIGHTS), POINTS),
    "box": (Box(LOC, 2 + RATES, WEIGHTS), LOC[RNG.integers(K, size=N)] + RNG.uniform(-2, 2, size=(N, D))),
    "ball": (Ball(LOC, 3 + RATES[:, 0], WEIGHTS), LOC[RNG.integers(K, size=N)] + RNG.uniform(-1, 1, size=(N, D))),
    "levy": (Levy(LOC, RATES, WEIGHTS), LOC.max(axis=0) + RNG.uniform(0.1, 3, size=(N, D))),
    "spherical": (Spherical(DIRECTIONS, np.array([0.5, 3.0, 40.0, 8.0]), WEIGHTS), ON_SPHERE),
    "continuous_hopfield": (ContinuousHopfield(LOC, 0.6), POINTS),
    "cosine_hopfield": (CosineHopfield(LOC, 2.5), ON_SPHERE),
    "universal": (Universal(LOC, "manhattan", 0.6), POINTS),
    "universal, squares": (Universal(LOC, "squared euclidean", 0.6), POINTS),
    "universal, distances": (Universal(LOC, "euclidean", 0.6), POINTS),
    "two_layer": (
        TwoLayer(LOC, modern_hopfield(LOC, 0.6).visible, modern_hopfield(LOC, 0.6).hidden, current=FIELDS[0]),
        POINTS,
    ),
    "hypercube": (Hypercube(FIELDS, WEIGHTS), BITS),
    "hypercube, signs": (Hypercube(FIELDS, WEIGHTS, -1.0, 1.0), 2 * BITS - 1),
    "counts": (Counts(FIELDS, WEIGHTS), RNG.poisson(2.0, size=(N, D)).astype(float)),
    "composition": (Composition(RATES, WEIGHTS), PARTS),
    "creation": (Creation(LOC, np.array([5.0, 3.0, 1.0, 9.0]), 0.6, 0.2, 0.8, 0.3), POINTS),
    "epanechnikov": (Epanechnikov(LOC, 0.05, WEIGHTS), POINTS),
    "positive_features": (PositiveFeatures.store(jnp.asarray(LOC), num_features=30, gamma=0.3), POINTS),
    "diffusion": (Diffusion(LOC, 0.9, 0.8), POINTS),
    "consolidated": (Consolidated.store(jnp.asarray(POINTS), num_slots=5, threshold=0.8, beta=0.6), POINTS),
    "predictive_coding": (
        PredictiveCoding(
            Layers((LOC[:3, :2] / 4, FIELDS[:2, :1]), (FIELDS[0], FIELDS[1, :2], FIELDS[2, :1])), 0.8, "linear", 600
        ),
        POINTS,
    ),
    "decoder": (Decoder(LOC, HOST[:, 0], HOST, FIELDS[0, :2], 0.7, 0.9, WEIGHTS), POINTS),
}
"""Memories with a density, each with points at which to compare."""

_TOKEN = RNG.normal(size=(2, 5, D))
_SEQUENCES = RNG.normal(size=(N, 4, D))

WITHOUT_TWIN: dict[str, tuple[Memory, np.ndarray]] = {
    "hopfield": (Hopfield.store(jnp.asarray(SIGNS)), RNG.choice([-1.0, 1.0], size=(N, 40))),
    "dense": (Dense.store(jnp.asarray(SIGNS)), RNG.choice([-1.0, 1.0], size=(N, 40))),
    "sparse_distributed": (
        SparseDistributed.store(jnp.asarray((SIGNS + 1) / 2), num_locations=300),
        RNG.integers(2, size=(N, 40)).astype(float),
    ),
    "sequences": (Sequence(SIGNS), RNG.choice([-1.0, 1.0], size=(N, 40))),
    "layered_sequences": (LayeredSequence.store(jnp.asarray(SIGNS)), RNG.choice([-1.0, 1.0], size=(N, 40))),
    "timed_sequences": (TimedSequence(SIGNS, delay=3), RNG.choice([-1.0, 1.0], size=(N, 3, 40))),
    "attention": (Attention.store(jnp.asarray(LOC)), POINTS),
    "energy_transformer": (EnergyTransformer(_TOKEN, _TOKEN[::-1], LOC, 0.5, 4), _SEQUENCES),
    "energy_transformer, in turn": (
        EnergyTransformer(_TOKEN, -_TOKEN, 0.3 * LOC, 0.02, 4, step=50.0, in_turn=True),
        _SEQUENCES,
    ),
    "energy_transformer, safe step": (
        EnergyTransformer(_TOKEN, -_TOKEN, 0.3 * LOC, 0.02, 4, LayerNorm(0.9, 0.1, 0.05), step=0.013),
        _SEQUENCES,
    ),
    "random_features": (RandomFeatures.store(jnp.asarray(LOC), num_features=500, gamma=0.3), POINTS),
    "predictive_coding, tanh": (
        PredictiveCoding(Layers((LOC[:3, :2],), (FIELDS[0], FIELDS[1, :2])), 0.5),
        POINTS,
    ),
    "universal, dot": (Universal(LOC, "dot", 0.6), POINTS),
    "assignments": (Assignments(LOC, POINTS[0], 0.6, WEIGHTS), SHARES),
    "streamed_assignments": (
        StreamedAssignments(LOC[1:], np.array([5.0, 0.7, 2.2]), POINTS[0], 0.6, 0.2, 0.8, 0.3),
        SHARES,
    ),
    "epanechnikov, with a floor": (Epanechnikov(LOC, 0.05, WEIGHTS, 0.1), POINTS),
    "radial, cubes": (Radial(LOC, 0.5, 3.0), POINTS),
    "bayesian_predictive_coding": (BayesianPredictiveCoding.store(jnp.asarray(LOC), width=8), POINTS),
    "variational": (Variational.store(jnp.asarray(LOC), num_units=8, num_steps=10), POINTS),
}
"""Memories without one."""

REAL = 3 * RNG.normal(size=(3, 6))
_SMALL = np.array([[1.0, 0.0], [-1.0, 0.5], [0.0, -1.0]])
_UNIT = REAL / np.linalg.norm(REAL, axis=1, keepdims=True)
_PROFILES = np.array([[30.0, 10, 2, 1, 1, 0], [0, 1, 2, 3, 20, 30], [5, 25, 5, 25, 5, 5]])
_NEAR: Callable[[np.ndarray], np.ndarray] = lambda x: x + 0.1 * RNG.normal(size=x.shape)  # noqa: E731
_FLIPPED = SIGNS * np.where(np.arange(40) < 4, -1, 1)


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


RECALLED: dict[str, tuple[np.ndarray, np.ndarray, float]] = {
    **{
        name: (REAL, _NEAR(REAL), 0.02)
        for name in (
            "clam",
            "quadratic",
            "student_t",
            "laplace",
            "universal",
            "diffusion",
            "epanechnikov",
            "consolidated",
        )
    },
    **{name: (REAL, _NEAR(REAL), 0.02) for name in ("generalized_normal", "radial", "creation")},
    "random_features": (REAL, _NEAR(REAL), 0.1),  # an estimate
    "predictive_coding": (REAL, _NEAR(REAL), 0.5),  # a wide hierarchy keeps some of the noise
    "positive_features": (_SMALL, _NEAR(_SMALL), 0.25),
    "levy": (REAL, REAL + np.abs(0.1 * RNG.normal(size=REAL.shape)), 0.1),
    "spherical": (_UNIT, _unit(_NEAR(_UNIT)), 0.02),
    "cosine_hopfield": (_UNIT, _unit(_NEAR(_UNIT)), 0.02),
    "continuous_hopfield": (3 * _UNIT, 3 * _unit(_NEAR(_UNIT)), 0.02),
    "two_layer": (3 * _UNIT, 3 * _unit(_NEAR(_UNIT)), 0.02),
    "attention": (_UNIT - _UNIT.mean(axis=1, keepdims=True), _NEAR(_UNIT), 0.05),
    "hypercube": ((SIGNS + 1) / 2, (_FLIPPED + 1) / 2, 0),
    "sparse_distributed": ((SIGNS + 1) / 2, (_FLIPPED + 1) / 2, 0),
    "hopfield": (SIGNS, _FLIPPED, 0),
    "dense": (SIGNS, _FLIPPED, 0),
    "bayesian_predictive_coding": (SIGNS, _NEAR(SIGNS), 0.3),
    "sequences": (SIGNS, np.roll(_FLIPPED, 1, axis=0), 0),  # from a predecessor with errors
    "layered_sequences": (SIGNS, np.roll(_FLIPPED, 1, axis=0), 0),
    "counts": (_PROFILES, _PROFILES + np.random.default_rng(0).integers(3, size=_PROFILES.shape), 6),
    "composition": (np.array([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]]), np.array([[0.6, 0.2, 0.2], [0.2, 0.1, 0.7]]), 0.02),
    "variational": (REAL, _NEAR(REAL), 0.3),
}
"""Patterns to store, queries near them, and how far from the pattern recall may end, in any coordinate."""
