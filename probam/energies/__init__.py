"""The physics: energies of associative memories, from the papers, in JAX alone."""
