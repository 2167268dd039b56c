"""Associative memories as probabilistic programs."""
