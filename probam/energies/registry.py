"""All memories by name, and memories of one's own by file."""

import runpy
from difflib import get_close_matches
from pathlib import Path

from probam.energies import (
    assignments,
    attention,
    bayesian_predictive_coding,
    clam,
    composition,
    consolidated,
    continuous_hopfield,
    counts,
    creation,
    dense,
    diffusion,
    energy_transformer,
    epanechnikov,
    generalized_normal,
    hopfield,
    hypercube,
    laplace,
    layered_sequences,
    positive_features,
    predictive_coding,
    predictive_hierarchy,
    quadratic,
    random_features,
    sequences,
    sparse_distributed,
    spherical,
    streamed_assignments,
    student_t,
    supports,
    timed_sequences,
    two_layer,
    universal,
    variational,
)
from probam.energies.memory import Memory
from probam.errors import InputError, own_code

__all__ = ["MEMORIES", "find_memory"]

_ALL: tuple[type[Memory], ...] = (
    clam.Clam,
    quadratic.Quadratic,
    student_t.StudentT,
    laplace.Laplace,
    epanechnikov.Epanechnikov,
    generalized_normal.GeneralizedNormal,
    generalized_normal.Radial,
    supports.Box,
    supports.Ball,
    supports.Levy,
    spherical.Spherical,
    continuous_hopfield.ContinuousHopfield,
    continuous_hopfield.CosineHopfield,
    attention.Attention,
    universal.Universal,
    two_layer.Network,
    energy_transformer.EnergyTransformer,
    hypercube.Hypercube,
    counts.Counts,
    composition.Composition,
    hopfield.Network,
    dense.Network,
    sparse_distributed.SparseDistributed,
    sequences.Sequence,
    layered_sequences.LayeredSequence,
    timed_sequences.TimedSequence,
    creation.Creation,
    assignments.Assignments,
    streamed_assignments.StreamedAssignments,
    consolidated.Consolidated,
    diffusion.Diffusion,
    random_features.RandomFeatures,
    positive_features.PositiveFeatures,
    predictive_coding.Decoder,
    variational.Variational,
    bayesian_predictive_coding.BayesianPredictiveCoding,
    predictive_hierarchy.PredictiveCoding,
)

MEMORIES: dict[str, type[Memory]] = {memory.card.name: memory for memory in _ALL}
"""Name -> class, in the order of ``docs/memories.md``."""


def find_memory(name: str) -> type[Memory]:
    """The memory called ``name``: one of :data:`MEMORIES`, or ``FILE.py:Name``, whose file is executed.

    Raises:
        InputError: for another name, a file that is missing or has no such memory.
    """
    if ":" in name:
        place, attribute = name.rsplit(":", 1)
        if not Path(place).is_file():
            raise InputError(f"memory: no such file: {place}; a memory of your own is named FILE.py:Name")
        with own_code(f"memory: {place} cannot be imported", place):
            found = runpy.run_path(place, run_name=Path(place).stem).get(attribute)
        if not (isinstance(found, type) and issubclass(found, Memory)):
            raise InputError(f"memory: {place} has no Memory called {attribute!r}; name a subclass of Memory in it")
        return found
    if name not in MEMORIES:
        close = get_close_matches(name, MEMORIES, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}?" if close else "`probam memory list` has all"
        raise InputError(f"memory: there is none called {name!r}; {hint}")
    return MEMORIES[name]
