"""The court: where energies and densities meet and are compared, claim by claim."""
