"""Claims about energies that are mixtures: Gaussian, directional, attention, memory creation."""
