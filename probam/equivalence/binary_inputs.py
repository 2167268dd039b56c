"""Inputs of claims about binary neurons: banks of signs, and all states of a few neurons."""

from itertools import product

import jax
import numpy as np

from probam.equivalence.inputs import Floats, generator

__all__ = ["all_banks", "all_states", "sign_bank"]


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
    found = {"states": states, "memories": memories}
    if beta is not None:
        found["beta"] = np.asarray(beta)
    return found
