"""Physical twins of fitted mixtures, densities of memories, and the checks that energies are negative log densities."""

# All twins are registered, whichever module is asked for.
from probam.equivalence import continuous_twins, memory_twins, twins  # noqa: F401
