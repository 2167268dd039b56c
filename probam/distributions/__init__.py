"""NumPyro distributions of memories, their mixtures and their weights."""
