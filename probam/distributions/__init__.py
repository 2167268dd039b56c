"""NumPyro distributions that the field lacks."""
