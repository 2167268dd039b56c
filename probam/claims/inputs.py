"""Inputs that test claims, ordinary and extreme, drawn in float64 from explicit keys.

Drawn with NumPy from the key's bits: a claim meets many settings, and compiling a sampler for each shape would
cost more than the claim.
"""

from itertools import product

import jax
import numpy as np
import numpy.typing as npt

__all__ = [
    "all_banks",
    "all_states",
    "euclidean_bank",
    "generator",
    "orthonormal_complement_of_ones",
    "sign_bank",
    "spherical_bank",
    "unit_rows",
]

Floats = npt.NDArray[np.float64]


def generator(key: jax.Array) -> np.random.Generator:
    """NumPy generator whose stream is a function of the JAX key alone."""
    return np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())


def unit_rows(x: Floats) -> Floats:
    """Rows scaled to length one."""
    return np.asarray(x / np.linalg.norm(x, axis=-1, keepdims=True))


def euclidean_bank(
    key: jax.Array,
    *,
    num_queries: int = 6,
    num_memories: int = 4,
    dim: int = 3,
    beta: float = 1.7,
    offset: float = 0.0,
    query_radius: float = 0.0,
    duplicates: bool = False,
    zero_weights: bool = False,
    far: float = 0.0,
) -> dict[str, Floats]:
    """Queries (N, D), memories (K, D), unnormalised weights (K,) and beta.

    Queries lie around randomly chosen memories, about as far as the memories lie from each other. ``offset``
    moves everything away from the origin; ``query_radius`` puts the queries on a sphere of that radius instead;
    ``duplicates`` repeats a memory; ``zero_weights`` switches one off; ``far`` moves one that far away.
    """
    draw = generator(key)
    memories = draw.normal(size=(num_memories, dim)) / np.sqrt(dim)
    weights = draw.uniform(0.3, 3.0, size=num_memories)
    queries = memories[draw.integers(num_memories, size=num_queries)]
    queries = queries + 0.7 * draw.normal(size=(num_queries, dim)) / np.sqrt(dim)
    if query_radius:
        queries = query_radius * unit_rows(draw.normal(size=(num_queries, dim)))
    if duplicates:
        memories[-1] = memories[0]
    if zero_weights:
        weights[num_memories // 2] = 0.0
    if far:
        memories[-1] = far * unit_rows(draw.normal(size=(1, dim)))[0]
    return {"queries": queries + offset, "memories": memories + offset, "weights": weights, "beta": np.asarray(beta)}


def spherical_bank(
    key: jax.Array,
    *,
    num_queries: int = 6,
    num_memories: int = 4,
    dim: int = 5,
    concentration: float = 3.0,
    equal: bool = False,
    duplicates: bool = False,
    zero_weights: bool = False,
) -> dict[str, Floats]:
    """Queries (N, D) and directions (K, D) of length one, concentrations (K,), unnormalised weights (K,).

    Concentrations are spread over a factor of about ten around ``concentration``, unless ``equal``.
    """
    draw = generator(key)
    directions = unit_rows(draw.normal(size=(num_memories, dim)))
    spread = np.ones(num_memories) if equal else np.exp(draw.uniform(-1.2, 1.2, size=num_memories))
    weights = draw.uniform(0.3, 3.0, size=num_memories)
    queries = unit_rows(
        directions[draw.integers(num_memories, size=num_queries)] + draw.normal(size=(num_queries, dim))
    )
    if duplicates:
        directions[-1] = directions[0]
    if zero_weights:
        weights[num_memories // 2] = 0.0
    return {"queries": queries, "directions": directions, "concentrations": concentration * spread, "weights": weights}


def orthonormal_complement_of_ones(dim: int) -> Floats:
    """Matrix (D, D-1) with orthonormal columns that span the vectors whose entries sum to zero (Helmert's)."""
    basis = np.zeros((dim, dim - 1))
    for j in range(1, dim):
        basis[:j, j - 1] = 1.0
        basis[j, j - 1] = -float(j)
        basis[:, j - 1] /= np.sqrt(j * (j + 1))
    return basis


# --- binary neurons: banks of signs, and all states of a few neurons ---------------------------------------------


def all_states(num_neurons: int) -> Floats:
    """Every state of N neurons once, (2^N, N)."""
    return np.array(list(product([-1.0, 1.0], repeat=num_neurons)))


def all_banks(num_memories: int, num_neurons: int) -> Floats:
    """Every bank of K memories of N signs once, (2^(KN), K, N)."""
    return all_states(num_memories * num_neurons).reshape(-1, num_memories, num_neurons)


def sign_bank(
    key: jax.Array,
    *,
    num_memories: int = 4,
    num_neurons: int = 7,
    num_states: int = 0,
    beta: float | None = None,
    duplicates: bool = False,
) -> dict[str, Floats]:
    """Memories of signs (K, N), linearly independent where K <= N allows, and states (S, N): all 2^N, or S at random.

    ``duplicates`` repeats a memory and stores the opposite of another.
    """
    draw = generator(key)
    memories = draw.choice([-1.0, 1.0], size=(num_memories, num_neurons))
    while not duplicates and np.linalg.matrix_rank(memories) < min(num_memories, num_neurons):
        memories = draw.choice([-1.0, 1.0], size=(num_memories, num_neurons))
    if duplicates:
        memories[-1], memories[-2] = memories[0], -memories[1]
    states = draw.choice([-1.0, 1.0], size=(num_states, num_neurons)) if num_states else all_states(num_neurons)
    drawn = {"states": states, "memories": memories}
    if beta is not None:
        drawn["beta"] = np.asarray(beta)
    return drawn
