"""The physical twin of a fitted mixture, and the checks that its energy is the negative log density."""

from probam.equivalence import continuous_twins, twins  # noqa: F401  registers all twins, whichever module is asked for
