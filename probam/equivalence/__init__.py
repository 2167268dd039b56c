"""Physical twins of fitted mixtures, densities of memories, and the checks that energies are negative log densities."""

# The twins of banks are registered, whichever module is asked for; `twin` brings those of memories when it needs them.
from probam.equivalence import continuous_twins, twins  # noqa: F401
